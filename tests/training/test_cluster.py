"""Clusters as JAX detects them: who joins, who stays alone, what is said."""

import logging

import jax
import pytest

from segjax.errors import UserError
from segjax.training.cluster import join_processes

SLURM = {
    "SLURM_JOB_ID": "4711",
    "SLURM_STEP_NODELIST": "node[07-08]",
    "SLURM_NTASKS": "4",
    "SLURM_PROCID": "2",
    "SLURM_LOCALID": "0",
}
OPEN_MPI = {
    "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1:34911",
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_RANK": "2",
    "OMPI_COMM_WORLD_LOCAL_RANK": "0",
}
POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}


@pytest.fixture
def joined(monkeypatch):
    """How JAX was asked to join; no process does."""
    for name in (*SLURM, *OPEN_MPI, *POD, "JOB_COMPLETION_INDEX"):
        monkeypatch.delenv(name, raising=False)
    before = jax.config.jax_enable_preemption_service
    calls = []
    monkeypatch.setattr(
        jax.distributed, "initialize", lambda *x, **named: calls.append((x, named))
    )
    yield calls
    jax.config.update("jax_enable_preemption_service", before)


def set_all(monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("variables", "name", "method"),
    [(SLURM, "Slurm", "slurm"), (OPEN_MPI, "Open MPI", "ompi")],
)
def test_a_process_of_a_cluster_joins_and_says_how_many_there_are(
    monkeypatch, joined, caplog, variables, name, method
):
    caplog.set_level(logging.INFO, "segjax")
    set_all(monkeypatch, variables)
    join_processes(None, None, None)
    assert joined == [((), {"cluster_detection_method": method})]
    assert f"Processes  4, found by {name}; this is number 2." in caplog.text


def test_off_stays_alone(monkeypatch, joined):
    set_all(monkeypatch, SLURM)
    join_processes(None, None, None, "off")
    assert joined == []


def test_one_task_of_slurm_stays_alone_with_all_its_devices(monkeypatch, joined):
    set_all(monkeypatch, SLURM | {"SLURM_NTASKS": "1", "SLURM_PROCID": "0"})
    join_processes(None, None, None)
    assert joined == []
    join_processes(None, None, None, "on")
    assert len(joined) == 1


def test_without_a_cluster_a_process_is_alone(joined):
    join_processes(None, None, None)
    assert joined == []


def test_a_pod_that_is_not_of_an_indexed_job_is_alone(monkeypatch, joined, recwarn):
    set_all(monkeypatch, POD)
    join_processes(None, None, None)
    assert joined == []
    assert not recwarn


def test_flags_go_before_the_cluster(monkeypatch, joined):
    set_all(monkeypatch, SLURM)
    join_processes("10.0.0.1:9876", 2, 1)
    assert joined == [(("10.0.0.1:9876", 2, 1), {})]


@pytest.mark.parametrize(
    ("variables", "arguments", "sentence"),
    [
        ({}, (None, None, None, "on"), "no cluster is detected here"),
        ({}, ("a:1", None, None), "belong together"),
        ({}, ("a:1", 2, 2), "--process_id is 2: with --num_processes=2 it lies in"),
        ({}, ("a:1", 2, 0, "off"), "--distributed=off and --coordinator are given"),
        (
            SLURM | {"SLURM_NTASKS": "four"},
            (None, None, None),
            "Slurm is detected, but does not say how many processes there are",
        ),
        (
            POD | {"JOB_COMPLETION_INDEX": "0"},
            (None, None, None),
            "the Python package kubernetes.* is missing|Kubernetes is detected, but",
        ),
    ],
)
def test_what_cannot_be_joined_ends_in_a_sentence(
    monkeypatch, joined, variables, arguments, sentence
):
    set_all(monkeypatch, variables)
    with pytest.raises(UserError, match=sentence):
        join_processes(*arguments)
    assert joined == []


def test_processes_that_do_not_find_each_other_end_in_a_sentence(monkeypatch, joined):
    def fail(*_, **__):
        raise RuntimeError("DEADLINE_EXCEEDED: Barrier timed out.\nmore")

    monkeypatch.setattr(jax.distributed, "initialize", fail)
    set_all(monkeypatch, SLURM)
    with pytest.raises(UserError, match="Process 2 of 4 could not join") as caught:
        join_processes(None, None, None)
    assert "DEADLINE_EXCEEDED: Barrier timed out). Start all" in str(caught.value)
