"""The plan of a machine: one real program on CPU devices, and the search with made-up ones."""

import json
import os
import subprocess
import sys

import pytest

from segjax.errors import UserError
from segjax.runs import plan as plans
from segjax.runs.plan import largest_batch, plan, without_counting


def needs(fixed, each, memory, calls):
    """Compiles nothing: memory grows with the batch, in steps."""

    def compile_for(size):
        calls.append(size)
        peak = fixed + each * size + size % 3
        return {"memory": {"peak": peak}, "fits": peak <= memory}

    return compile_for


@pytest.mark.parametrize("begin", [2, 8, 64, 1024])
@pytest.mark.parametrize(
    ("fixed", "each", "largest"), [(200, 7, 114), (0, 1, 998), (500, 249, 2)]
)
def test_the_largest_batch_is_found_in_few_compilations(begin, fixed, each, largest):
    calls = []
    compile_for = needs(fixed, each, 1000, calls)
    assert largest_batch(compile_for, begin, step=2, memory=1000) == largest
    assert len(calls) <= 8
    assert len(set(calls)) == len(calls)


def test_where_nothing_fits_there_is_no_largest_batch():
    assert largest_batch(needs(999, 7, 1000, []), 8, step=4, memory=1000) is None


def test_a_plan_for_cpu_devices_is_what_a_run_on_them_is_told(smoke):
    report = plan(smoke, "cpux2", 4)
    assert (report["devices"], report["batch_size"], report["fits"]) == (2, 4, None)
    assert report["memory"]["peak"] > report["memory"]["temporaries"] > 0
    assert report["flops"] > 0
    assert report["collectives"]["all-reduce"]["bytes"] > 0
    assert report["unexpected"] == []
    assert report["padding"] is None
    with pytest.raises(UserError, match=r"no memory of its own.*leave out --largest"):
        plan(smoke, "cpux2", 4, find_largest=True)


def test_what_cannot_be_shared_evenly_is_refused(smoke):
    with pytest.raises(UserError, match=r"--batch_size is 3, which 2 devices"):
        plan(smoke, "cpux2", 3)


def test_a_program_that_does_not_fit_says_how_much_it_wants(smoke, monkeypatch):
    class Lowered:
        def compile(self, compiler_options):
            raise plans.jax.errors.JaxRuntimeError(
                "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. "
                "Used 20.00G of 15.75G hbm."
            )

    monkeypatch.setattr(plans, "lowered_step", lambda *_: (Lowered(), []))
    monkeypatch.setattr(plans, "devices_of", lambda *_: plans.Devices())
    report = plan(smoke, "v5e:2x2", 8)
    assert (report["fits"], report["memory"]) == (False, {"peak": 20 * 2**30})


def test_classes_that_are_counted_weigh_the_same(smoke):
    smoke.loss.class_weights = "median_frequency"
    changed = without_counting(smoke)
    assert changed.loss.class_weights == (1.0, 1.0)
    assert smoke.loss.class_weights == "median_frequency"


def planned(topology):
    """The paper's U-Net, planned by the command in a process of its own."""
    command = [
        sys.executable,
        "-m",
        "segjax.main",
        "plan",
        "--config=unet_em:paper+bf16",
    ]
    command += ["--batch_size=8", "--json"]
    # libtpu ends where XLA_FLAGS, which tests set for CPUs, holds a flag that it does not know.
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    done = subprocess.run(
        [*command, f"--topology={topology}"],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.plan
@pytest.mark.parametrize("topology", ["v5e", "h100"])
def test_the_unet_compiles_for_machines_that_are_not_there(topology):
    report = planned(topology)
    assert report["fits"]
    assert report["unexpected"] == []
    assert report["operators"].keys().isdisjoint({"while", "conditional", "sort"})
    assert report["flops"] == pytest.approx(7.25e12, rel=0.05)
    if topology == "v5e":
        assert report["memory"]["live"] <= 5.6 * 2**30
        assert report["bytes_accessed"] <= 33.5e9
        assert report["seconds_estimated"] <= 0.066
