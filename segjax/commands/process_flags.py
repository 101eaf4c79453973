"""Flags of a run of many processes."""

from __future__ import annotations

from absl import flags

from segjax.commands.shared_flags import Flags

TOGETHER = ("coordinator", "num_processes", "process_id")
"""The flags that name the processes of a run."""
DISTRIBUTED = "distributed"
"""The flag that says whether they are found without those."""


def define_processes(values: Flags) -> None:
    """Defines the flags of a run of many processes."""
    flags.DEFINE_string(
        "coordinator",
        None,
        "Address host:port of process 0, in a run of many processes.",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "num_processes", None, "How many processes there are.", flag_values=values
    )
    flags.DEFINE_integer(
        "process_id", None, "Which of them this is, from 0.", flag_values=values
    )
    flags.DEFINE_enum(
        DISTRIBUTED,
        "auto",
        ["auto", "on", "off"],
        "Whether this process joins those that Slurm, Open MPI, Kubernetes or a TPU pod has "
        "started with it: where there are several (auto), always (on), or never (off).",
        flag_values=values,
    )
