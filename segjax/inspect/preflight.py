"""The screen before the first step: what will be trained, on what, at what cost."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from segjax.train.progress import duration
from segjax.types import IGNORE_LABEL, UserError

if TYPE_CHECKING:
    from segjax.data.dataset import Dataset
    from segjax.train.sharding import Devices
    from segjax.train.task import SemanticTask

RECORDS_READ = 64
"""How many records the histogram of labels is counted on."""


def describe_experiment(task: SemanticTask, dataset: Dataset, devices: Devices) -> str:
    """Describes network and data; reads some records, compiles nothing.

    Args:
      task: the experiment.
      dataset: its data.
      devices: where it runs.

    Returns:
      A few lines of text.

    Raises:
      UserError: if no pixel of the records that were read has a class.
    """
    config = task.config
    state = jax.eval_shape(lambda: task.init_state(dataset.channels))
    parameters = sum(x.size for x in jax.tree.leaves(state.params))
    processes = f", {jax.process_count()} processes" if jax.process_count() > 1 else ""
    return "\n".join(
        [
            f"Model      {config.model.name}, {parameters:,} parameters, "
            f"{_crop(task)}, batch {config.batch_size}",
            describe_dataset(dataset),
            f"Devices    {devices.count} x {jax.devices()[0].device_kind}{processes}",
        ]
    )


def describe_step(compiled: Any, steps: int, devices: int) -> str:
    """Describes what one compiled step costs, and how long the run will take at least.

    Args:
      compiled: the compiled training step.
      steps: how many of them are left.
      devices: on how many devices each runs.

    Returns:
      A line of text.
    """
    analysis = compiled.cost_analysis() or {}
    flops = analysis.get("flops", 0.0)
    memory = compiled.memory_analysis()
    peak = memory.temp_size_in_bytes + memory.argument_size_in_bytes if memory else 0
    text = (
        f"Step       {devices * flops / 1e9:,.1f} GFLOP, peak memory "
        f"{peak / 2**20:,.0f} MiB a device"
    )
    if flops and steps > 0:
        seconds = steps * flops / _matmul_rate()
        text += (
            f"; {steps} steps take at least {duration(seconds)} "
            "(at the speed of a matrix product)"
        )
    return text


def _crop(task: SemanticTask) -> str:
    height, width = task.input_size
    out_height, out_width = task.output_size
    return f"{height}x{width} -> {out_height}x{out_width}"


def describe_dataset(dataset: Dataset) -> str:
    """Describes splits, sizes and labels of a data set, from up to 64 training records.

    Raises:
      UserError: if no pixel of the records that were read has a class.
    """
    spec = dataset.label_spec
    train = dataset.splits["train"]
    counts = np.zeros(256, np.int64)
    sizes: dict[tuple[int, ...], int] = {}
    chosen = np.linspace(0, len(train) - 1, min(len(train), RECORDS_READ)).astype(int)
    for i in chosen:
        record = train[int(i)]
        counts += np.bincount(np.asarray(record["label"]).ravel(), minlength=256)
        size = record["image"].shape
        sizes[size] = sizes.get(size, 0) + 1
    counted = counts.sum() - counts[IGNORE_LABEL]
    if not counted:
        raise UserError(
            f'All pixels of the {len(chosen)} records of "train" that were read are '
            f"ignored (label {IGNORE_LABEL}): there is nothing to learn. Check the "
            "labels and config.data."
        )
    splits = ", ".join(
        f"{name} {len(records)}" for name, records in dataset.splits.items()
    )
    shapes = ", ".join(
        f"{n} of {'x'.join(map(str, size))}" for size, n in sorted(sizes.items())[:4]
    )
    shares = [
        f"{name} {counts[i] / counted:.1%}"
        + ("" if counts[i] else "  <- never seen: is that right?")
        for i, name in enumerate(spec.names)
    ]
    if counts[IGNORE_LABEL]:
        shares.append(f"ignored {counts[IGNORE_LABEL] / counts.sum():.1%} of all")
    labels = "\n".join("           " + line for line in spec.describe().splitlines())
    return "\n".join(
        [
            f"Data       {dataset.name}: {splits}",
            f"Images     {shapes}" + (" ..." if len(sizes) > 4 else ""),
            f"Labels     {', '.join(shares)}",
            labels,
        ]
    )


def _matmul_rate(side: int = 1024) -> float:
    """Measures the FLOP per second of a float32 matrix product on one device."""
    x = jnp.ones((side, side))
    product = jax.jit(jnp.dot)
    product(x, x).block_until_ready()
    began = time.perf_counter()
    for _ in range(3):
        product(x, x).block_until_ready()
    return 3 * 2 * side**3 / (time.perf_counter() - began)
