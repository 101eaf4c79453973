"""What an experiment would need on machines that need not be at hand."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any

import jax
import ml_collections

from segjax.data import channels_of
from segjax.errors import UserError
from segjax.inspect.compiled import lacking_memory, report_of
from segjax.inspect.machines import Topology, devices_of, read_topology
from segjax.ops.base.forms import lowering_for
from segjax.tasks.table import make_task
from segjax.training.compiled_step import jitted_step
from segjax.training.layout import check_rows, layout_of
from segjax.training.sharding import Devices
from segjax.training.state import TrainState
from segjax.training.task import Task
from segjax.training.throughput import peak_tflops

ESTIMATES = {"exec_time_optimization_effort": -1.0}
"""An option of the TPU's compiler: a fast compilation, whose estimate of time is usable."""

_BY_LINE = 5
"""Compilations after which a search for the largest batch halves what is left."""

Compile = Callable[[int], dict[str, Any]]
"""From a batch size to the report of the program, with `fits`."""


def plan(
    config: ml_collections.ConfigDict,
    topology: str,
    batch_size: int | None = None,
    *,
    find_largest: bool = False,
    optimized: bool = False,
) -> dict[str, Any]:
    """Compiles a step of training for a machine, and reports what it needs there.

    Nothing runs, and no data is read.

    Args:
      config: the experiment.
      topology: such as "v5e:4x4" or "h200x8" (`segjax.inspect.machines`).
      batch_size: over all devices; None for that of the config.
      find_largest: whether the largest batch that fits is looked for, with some more
        compilations.
      optimized: whether the TPU's compiler makes the effort that it makes for a run. It
        takes minutes, and its estimate of time is unusable then.

    Returns:
      JSON: what was compiled, the figures of `segjax.inspect.compiled.report_of`, the memory
      of a device, whether the program fits into it, and bounds of its time (`seconds_bound`).

    Raises:
      UserError: if the config or the topology is wrong, or the compiler is not installed.
    """
    described = read_topology(topology)
    memory = described.machine.memory
    if find_largest and memory is None:
        raise UserError(
            f"--topology={topology} has no memory of its own, so that no batch is the "
            "largest that fits: leave out --largest."
        )
    config = without_counting(config)
    if batch_size is not None:
        config.batch_size = batch_size
    task = make_task(config)
    devices = devices_of(described, layout_of(config))
    check_rows(devices.layout, task)
    key = "config.batch_size" if batch_size is None else "--batch_size"
    devices.check_batch_size(config.batch_size, key)
    options = {} if optimized or described.machine.platform != "tpu" else ESTIMATES

    def compile_for(size: int) -> dict[str, Any]:
        return _compiled(config, size, described, devices, options)

    found = compile_for(config.batch_size)
    report = {
        "config": config.model.name,
        "topology": topology,
        "devices": devices.count,
        "kind": described.machine.kind,
        "batch_size": config.batch_size,
        "input_size": list(task.input_size),
        "device_memory": described.machine.memory,
        **found,
        "seconds_bound": _bounds(found, described),
        "largest_batch_size": None,
    }
    if find_largest and memory is not None:
        tried = {config.batch_size: found}
        report["largest_batch_size"] = largest_batch(
            lambda size: tried.get(size) or compile_for(size),
            config.batch_size,
            step=devices.parts,
            memory=memory,
        )
    return report


def without_counting(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """A copy in whose loss all classes weigh the same, where data would have to be counted.

    The program is the same, but for the numbers.
    """
    config = copy.deepcopy(config)
    if isinstance(config.get("loss", {}).get("class_weights"), str):
        with config.ignore_type():
            config.loss.class_weights = (1.0,) * config.model.num_classes
    return config


def lowered_step(
    config: ml_collections.ConfigDict, devices: Devices, platform: str
) -> tuple[Any, list[tuple[int, ...]]]:
    """Traces and lowers the step of an experiment; nothing is compiled.

    Args:
      config: the experiment, of `without_counting`.
      devices: what it is for.
      platform: theirs, "cpu", "tpu", "cuda" or "rocm".

    Returns:
      A `jax.stages.Lowered`, and the shapes of what of its state is divided among devices.
    """
    task = make_task(config)
    shapes = _shapes(task, devices)
    step = jitted_step(task, devices, *shapes)
    with devices.lowering():
        lowered = step.trace(*shapes).lower(lowering_platforms=(platform,))
    return lowered, devices.divided(shapes[0])


def _shapes(task: Task, devices: Devices) -> tuple[TrainState, dict[str, Any]]:
    """The shapes of state and batch."""
    channels = channels_of(task.config.data)
    with devices.lowering():
        state = jax.eval_shape(lambda: task.init_state(channels))
    return state, task.abstract_batch(channels, task.config.batch_size)


def _flops_before(config: ml_collections.ConfigDict, devices: Devices) -> float:
    """Operations of a step on one device, before compilation: some compilers count none."""
    task = make_task(config)
    shapes = _shapes(task, devices)
    with lowering_for(devices.platform, devices.parts, devices.rows):
        traced = jax.jit(task.train_step).trace(*shapes)
    counts = traced.lower(lowering_platforms=("cpu",)).cost_analysis() or {}
    return counts.get("flops", 0.0) / devices.count


def _compiled(
    config: ml_collections.ConfigDict,
    batch_size: int,
    topology: Topology,
    devices: Devices,
    options: dict[str, Any],
) -> dict[str, Any]:
    """The report of one compilation; where memory lacks, of that alone."""
    config = copy.deepcopy(config)
    config.batch_size = batch_size
    began = time.perf_counter()
    lowered, divided = lowered_step(config, devices, topology.machine.platform)
    lowering = time.perf_counter() - began
    options = {**options, **devices.compiler_options}
    try:
        report = report_of(lowered.compile(compiler_options=options), divided)
    except jax.errors.JaxRuntimeError as error:
        wanted = lacking_memory(str(error))
        if wanted is None:
            reason = str(error).partition("\n")[0].rstrip(".")
            raise UserError(
                f"The compiler for --topology={topology.text} cannot compile this step: "
                f"{reason}."
            ) from error
        report = {"memory": {"peak": wanted}}
    else:
        report["flops"] = report["flops"] or _flops_before(config, devices)
    took = time.perf_counter() - began - lowering
    memory, peak = topology.machine.memory, report["memory"]["peak"]
    return {
        **report,
        "fits": None if memory is None else "flops" in report and peak <= memory,
        "seconds_lowering": lowering,
        "seconds_compiling": took,
    }


def _bounds(report: dict[str, Any], topology: Topology) -> dict[str, float]:
    """The least seconds of a step by its operations, and by the bytes that it moves."""
    bounds = {}
    peak, bandwidth = peak_tflops(topology.machine.kind), topology.machine.bandwidth
    if report.get("flops") and peak:
        bounds["flops"] = report["flops"] / (1e12 * peak)
    if report.get("bytes_accessed") and bandwidth:
        bounds["bytes"] = report["bytes_accessed"] / bandwidth
    return bounds


def largest_batch(
    compile_for: Compile, batch_size: int, *, step: int, memory: float
) -> int | None:
    """Looks for the largest batch that fits, with few compilations.

    Memory grows nearly in proportion to the batch. So the line through the two batches that
    are known best says which to try next, and what does not fit bounds the search.

    Args:
      compile_for: gives `fits` and `memory` of a batch size.
      batch_size: to begin with.
      step: batch sizes are multiples of it.
      memory: of a device, bytes.

    Returns:
      The batch size; None where not even one example a device fits.

    Example:
      >>> needs = lambda size: {"memory": {"peak": 100 + 7 * size}, "fits": size < 58}
      >>> largest_batch(needs, 8, step=4, memory=500)
      56
    """
    seen: dict[int, int] = {}
    fitting, beyond = 0, None
    size = batch_size
    while True:
        report = compile_for(size)
        seen[size] = report["memory"]["peak"]
        if report["fits"]:
            fitting = max(fitting, size)
        else:
            beyond = size if beyond is None else min(beyond, size)
        if beyond is not None and beyond - fitting <= step:
            return fitting or None
        size = _next_size(seen, fitting, beyond, step, memory)


def _next_size(
    seen: dict[int, int], fitting: int, beyond: int | None, step: int, memory: float
) -> int:
    """The batch size to try next: where a line says that memory ends, within the bounds."""
    if len(seen) == 1:
        guess = 2 * fitting if fitting else max(seen) // 2
    elif len(seen) > _BY_LINE and beyond is not None:
        guess = (fitting + beyond) // 2  # memory that grows by steps
    else:
        near = sorted(seen, key=lambda size: abs(seen[size] - memory))[:2]
        low, high = sorted(near)
        slope = (seen[high] - seen[low]) / (high - low)
        guess = low + int((memory - seen[low]) / slope) if slope > 0 else 2 * high
    guess = max(guess // step * step, fitting + step)
    return guess if beyond is None else min(guess, beyond - step)
