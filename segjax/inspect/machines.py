"""Machines that programs can be compiled for without being at hand."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import math
import os
import re
from typing import Any

from jax.experimental import topologies

from segjax.errors import UserError, suggestion
from segjax.training.layout import Layout
from segjax.training.sharding import ALONG_DATA, Devices, cpu_devices

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Machine:
    """A kind of device.

    Attributes:
      platform: what programs are lowered for, "tpu", "cuda" or "cpu".
      kind: its name, as JAX has it.
      memory: bytes that a program can have; None where it is not that of the device.
      bandwidth: of the memory, bytes a second; None where it is not known.
      axes: along how many axes its topologies are written.
    """

    platform: str
    kind: str
    memory: float | None
    bandwidth: float | None
    axes: int = 1


MACHINES = {
    "v4": Machine("tpu", "TPU v4", 31.75 * GIB, 1.228e12, axes=3),
    "v5e": Machine("tpu", "TPU v5 lite", 15.75 * GIB, 0.819e12, axes=2),
    "v5p": Machine("tpu", "TPU v5p", 95.74 * GIB, 2.765e12, axes=3),
    "v6e": Machine("tpu", "TPU v6 lite", 31.25 * GIB, 1.64e12, axes=2),
    "h100": Machine("cuda", "NVIDIA H100 80GB HBM3", 84929347584, 3.35232e12),
    "h200": Machine("cuda", "NVIDIA H200", 150754820096, 4.8e12),
    "cpu": Machine("cpu", "cpu", None, None),
}
"""By the name that --topology has; figures of the vendors' data sheets."""

_EXTRAS = {
    "tpu": ("libtpu", "plan-tpu"),
    "cuda": ("jax_plugins.xla_cuda12", "plan-gpu"),
}
"""The compiler of each platform that segjax itself does not bring, and the extra that does."""

_TPU_IS_NOT_HERE = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
    "TPU_MIN_LOG_LEVEL": "3",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}
"""Environment variables without which libtpu asks the network what machine it is on, or refuses to
work while another process compiles."""

_HOPPER = """
gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: 233472
  shared_memory_per_block_optin: 232448
  threads_per_core_limit: 2048
  core_count: 132
  fpus_per_core: 128
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: {bandwidth:.0f}
  l2_cache_size: 52428800
  clock_rate_ghz: 1.98
  device_memory_size: {memory:.0f}
  cuda_compute_capability {{ major: 9 }}
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 8 }}
runtime_version {{ major: 12 minor: 9 patch: 0 }}
device_description_str: "{kind}"
"""
"""XLA's description of a GPU of the generation of H100 and H200."""


@dataclasses.dataclass(frozen=True)
class Topology:
    """Some devices of one kind, and how they are connected.

    Attributes:
      text: as it was written, such as "v5e:4x4".
      machine: what each device is.
      shape: devices along each axis.
    """

    text: str
    machine: Machine
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        """How many devices it has."""
        return math.prod(self.shape)


def read_topology(text: str) -> Topology:
    """Reads the value of --topology.

    Args:
      text: a TPU and its chips along each axis, such as "v5e:4x4", or another device and how
        many there are, such as "h200x8"; one device without a number.

    Returns:
      The topology.

    Raises:
      UserError: if it is none.

    Example:
      >>> read_topology("v5e:4x4").shape, read_topology("h200x8").count
      ((4, 4), 8)
      >>> read_topology("v5p").shape
      (1, 1, 1)
    """
    name, mark, sides = text.partition(":")
    colon = mark
    if not colon and name not in MACHINES:
        name, mark, sides = text.rpartition("x")
    if name not in MACHINES:
        raise UserError(
            f"--topology={text} is of no known machine.{suggestion(name or text, MACHINES)}"
        )
    machine = MACHINES[name]
    if not mark:
        return Topology(text, machine, (1,) * machine.axes)
    numbers = sides.split("x")
    good = all(re.fullmatch("[1-9][0-9]{0,3}", number) for number in numbers)
    on_tpu = machine.platform == "tpu"
    if not good or len(numbers) != machine.axes or bool(colon) != on_tpu:
        example = (
            ":".join([name, "x".join("2" * machine.axes)]) if on_tpu else f"{name}x8"
        )
        raise UserError(
            f"--topology={text} is not how the devices of {name} are written: give, for "
            f"example, --topology={example}."
        )
    return Topology(text, machine, tuple(map(int, numbers)))


def devices_of(topology: Topology, layout: Layout = ALONG_DATA) -> Devices:
    """The devices of a topology: described ones, or the CPU devices of this machine.

    Args:
      topology: of a machine that need not be there.
      layout: how they are arranged.

    Returns:
      What programs are compiled for.

    Raises:
      UserError: if the compiler is not installed, knows no such topology, or the devices
        cannot be arranged so.
    """
    machine = topology.machine
    if machine.platform == "cpu":
        return Devices(cpu_devices(topology.count), layout)
    package, extra = _EXTRAS[machine.platform]
    if not _is_installed(package):
        raise UserError(
            f"--topology={topology.text} needs a compiler that is not installed here: "
            f"pip install 'segjax[{extra}]'. It wants no device."
        )
    try:
        described = topologies.get_topology_desc(**_description(topology))
    except Exception as error:  # whatever a compiler raises
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise UserError(
            f"--topology={topology.text} is unknown to the compiler: {reason}."
        ) from error
    return Devices(list(described.devices), layout)


def _is_installed(package: str) -> bool:
    with contextlib.suppress(ModuleNotFoundError):  # of the package around it
        return importlib.util.find_spec(package) is not None
    return False


def _description(topology: Topology) -> dict[str, Any]:
    """The arguments by which JAX describes a topology."""
    machine = topology.machine
    sides = "x".join(map(str, topology.shape))
    if machine.platform == "cuda":
        # A GPU that is not described but there would be asked instead.
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
        target = _HOPPER.format(**dataclasses.asdict(machine))
        return {"platform": "cuda", "topology": f"1x1x{sides}", "target_config": target}
    for name, value in _TPU_IS_NOT_HERE.items():
        os.environ.setdefault(name, value)
    name = f"{topology.text.partition(':')[0]}:{sides}"
    one = {"chips_per_host_bounds": (1, 1, 1)} if topology.count == 1 else {}
    return {"platform": "tpu", "topology_name": name, **one}
