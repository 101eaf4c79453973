"""Whether this process is one of several that work on one run: by flags, or as a cluster says.

JAX knows the clusters: Slurm (`srun`), Open MPI, indexed Jobs of Kubernetes, TPU pods, and on
demand mpi4py. A process of theirs joins the others without any flag.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator

import jax
from jax._src import distributed as jax_distributed
from jax._src.clusters import ClusterEnv

from segjax.errors import UserError

log = logging.getLogger("segjax")

_NAMES = {
    "SlurmCluster": "Slurm",
    "OmpiCluster": "Open MPI",
    "K8sCluster": "Kubernetes",
    "GceTpuCluster": "TPU pod",
    "GkeTpuCluster": "TPU pod",
    "Mpi4pyCluster": "mpi4py",
}
_ALONE = "--distributed=off has this process work alone."


def join_processes(
    coordinator: str | None,
    num_processes: int | None,
    process_id: int | None,
    distributed: str = "auto",
    *,
    saves_when_preempted: bool = True,
) -> None:
    """Joins the other processes of a run, if there are any, and logs how many first.

    Args:
      coordinator: address host:port of process 0; None where a cluster knows it.
      num_processes: how many there are; likewise.
      process_id: which of them this is; likewise.
      distributed: whether it joins where a cluster is detected that has several processes
        ("auto"), must join ("on"), or does not ("off").
      saves_when_preempted: whether JAX notes SIGTERM, so that all processes can save after
        one and the same step; otherwise the signal ends this process as always.

    Raises:
      UserError: if some of the first three are given and others are not, if no cluster is
        there where one must be, or if the others cannot be reached.
    """
    given = (coordinator, num_processes, process_id)
    flags = [value is not None for value in given]
    if any(flags) and not all(flags):
        raise UserError(
            "--coordinator, --num_processes and --process_id belong together: give all "
            "three, or none."
        )
    if any(flags) and distributed == "off":
        raise UserError(
            "--distributed=off and --coordinator are given: leave out one of them."
        )
    if coordinator is not None and num_processes is not None and process_id is not None:
        where, count, index, method = coordinator, num_processes, process_id, None
        if not 0 <= index < count:
            raise UserError(
                f"--process_id is {index}: with --num_processes={count} it lies in "
                f"[0, {count})."
            )
        found_by = "named by flags"
    elif distributed == "off":
        return
    else:
        cluster = _detected(must=distributed == "on")
        if cluster is None:
            return
        where, method = None, cluster.name or None  # that of Kubernetes has no name
        count, index = _place_in(cluster)
        if count == 1 and distributed == "auto":
            return
        found_by = f"found by {_name_of(cluster)}"
    log.info("Processes  %d, %s; this is number %d.", count, found_by, index)
    jax.config.update("jax_enable_preemption_service", saves_when_preempted)
    try:
        if where is None:
            jax.distributed.initialize(cluster_detection_method=method)
        else:
            jax.distributed.initialize(where, count, index)
    except Exception as error:  # of JAX, of its clusters' libraries, of the network
        address = jax_distributed.global_state.coordinator_address or where
        at = f" at {address}, where number 0 is expected" if address else ""
        raise UserError(
            f"Process {index} of {count} could not join the others{at} "
            f"({_first_line(error)}). Start all of them within five minutes, on machines "
            f"that reach each other; {_ALONE}"
        ) from error


def _detected(*, must: bool) -> type[ClusterEnv] | None:
    """The cluster that this process belongs to, as JAX detects it.

    Args:
      must: whether there has to be one; mpi4py then counts, too, which JAX wants to be asked
        for, and so does a pod that is not of an indexed Job, if only to say what it lacks.

    Returns:
      JAX's class of the cluster; None without one.

    Raises:
      UserError: if there has to be one and is not, or it cannot be asked.
    """
    for cluster in _candidates(must):
        with (
            warnings.catch_warnings()
        ):  # of a package that is missing: it is said below
            warnings.simplefilter("ignore")
            try:
                if cluster.is_env_present():
                    return cluster
            except Exception as error:
                raise _unknown(cluster, error) from error
        if cluster.__name__ == "K8sCluster" and _is_in_indexed_job():
            raise UserError(
                "This pod belongs to an indexed Job of Kubernetes, but the Python package "
                "kubernetes, which finds the other pods, is missing: install segjax[k8s]. "
                f"{_ALONE}"
            )
    if must:
        names = ", ".join(dict.fromkeys(_NAMES.values()))
        raise UserError(
            f"--distributed=on, but no cluster is detected here (of {names}). Start with "
            "srun, mpirun or as an indexed Job, or give --coordinator, --num_processes and "
            "--process_id."
        )
    return None


def _candidates(must: bool) -> Iterator[type[ClusterEnv]]:
    """JAX's clusters in its order; those that must be asked for come last."""
    known: list[type[ClusterEnv]] = [*ClusterEnv._cluster_types]
    for cluster in sorted(known, key=lambda each: each.opt_in_only_method):
        is_lone_pod = cluster.__name__ == "K8sCluster" and not _is_in_indexed_job()
        if must or not (cluster.opt_in_only_method or is_lone_pod):
            yield cluster


def _is_in_indexed_job() -> bool:
    return "KUBERNETES_SERVICE_HOST" in os.environ and (
        "JOB_COMPLETION_INDEX" in os.environ
    )


def _place_in(cluster: type[ClusterEnv]) -> tuple[int, int]:
    """How many processes a cluster has, and which of them this is."""
    try:
        return int(cluster.get_process_count()), int(cluster.get_process_id())
    except Exception as error:
        raise _unknown(cluster, error) from error


def _unknown(cluster: type[ClusterEnv], error: Exception) -> UserError:
    return UserError(
        f"{_name_of(cluster)} is detected, but does not say how many processes there are "
        f"({_first_line(error)}). Give --coordinator, --num_processes and --process_id; "
        f"{_ALONE}"
    )


def _name_of(cluster: type[ClusterEnv]) -> str:
    return _NAMES.get(cluster.__name__, cluster.__name__)


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:200].rstrip(" .")
