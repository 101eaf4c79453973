"""The screen before the first step: what will be trained, on what, at what cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from segjax.errors import UserError
from segjax.training import sharding
from segjax.training.progress import duration, in_gflop
from segjax.types import IGNORE_LABEL

if TYPE_CHECKING:
    from segjax.data.dataset import Dataset
    from segjax.training.sharding import Devices
    from segjax.training.task import Task

RECORDS_READ = 64
"""How many records the histogram of labels is counted on."""


def describe_experiment(task: Task, dataset: Dataset, devices: Devices) -> str:
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
    count = sharding.process_count()
    processes = f", {count} processes" if count > 1 else ""
    return "\n".join(
        [
            f"Model      {config.model.name}, {parameters:,} parameters, "
            f"{_crop(task)}, batch {config.batch_size}",
            describe_dataset(dataset),
            f"Devices    {devices.described}{processes}",
        ]
    )


def describe_step(compiled: Any, steps: int, devices: int, seconds: float) -> str:
    """Describes what one compiled step costs, and about how long the run will take.

    Args:
      compiled: the compiled training step.
      steps: how many of them are left.
      devices: on how many devices each runs.
      seconds: how long one of them took.

    Returns:
      A line of text.
    """
    analysis = compiled.cost_analysis() or {}
    flops = analysis.get("flops", 0.0)
    memory = compiled.memory_analysis()
    peak = memory.temp_size_in_bytes + memory.argument_size_in_bytes if memory else 0
    text = (
        f"Step       {in_gflop(devices * flops / 1e9)}, peak memory "
        f"{peak / 2**20:,.0f} MiB a device"
    )
    if steps > 0:
        text += (
            f"; {steps} steps take about {duration(steps * seconds)}, evaluations and "
            "pictures besides"
        )
    return text


def _crop(task: Task) -> str:
    height, width = task.input_size
    out_height, out_width = task.output_size
    return f"{height}x{width} -> {out_height}x{out_width}"


def describe_dataset(dataset: Dataset) -> str:
    """Describes splits, sizes and labels of a data set, from up to 64 training records.

    Raises:
      UserError: if no pixel of the records that were read has a class.
    """
    if dataset.instances is not None:
        return describe_objects(dataset)
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
    fractions = [
        f"{name} {count / counted:.1%}"
        + ("" if count else "  <- never seen: is that right?")
        for name, count in zip(spec.names, spec.class_pixels(counts), strict=True)
    ]
    if counts[IGNORE_LABEL]:
        fractions.append(f"ignored {counts[IGNORE_LABEL] / counts.sum():.1%} of all")
    labels = "\n".join("           " + line for line in spec.describe().splitlines())
    return "\n".join(
        [
            f"Data       {dataset.name}: {splits}",
            f"Images     {_shown(sizes, len(train))}",
            f"Labels     {', '.join(fractions)}",
            labels,
        ]
    )


def _shown(sizes: Mapping[tuple[int, ...], int], total: int) -> str:
    """The first four sizes, and how many of the images that were read have each."""
    read = sum(sizes.values())
    first = (
        f"{n} of {'x'.join(map(str, size))}" for size, n in sorted(sizes.items())[:4]
    )
    more = " ..." if len(sizes) > 4 else ""
    return ", ".join(first) + more + (f"; {total} in all" if read < total else "")


def describe_objects(dataset: Dataset) -> str:
    """Describes splits, sizes and objects of a data set, from up to 64 training records."""
    train, names = dataset.splits["train"], dataset.label_spec.names
    counts = np.zeros(len(names), np.int64)
    sizes: dict[tuple[int, ...], int] = {}
    numbers, crowds = [], 0
    chosen = np.linspace(0, len(train) - 1, min(len(train), RECORDS_READ)).astype(int)
    for i in chosen:
        record = train[int(i)]
        real = ~np.asarray(record["crowd"], bool)
        counts += np.bincount(record["classes"][real], minlength=len(names))
        crowds += int((~real).sum())
        numbers.append(int(real.sum()))
        size = record["image"].shape
        sizes[size] = sizes.get(size, 0) + 1
    splits = ", ".join(
        f"{name} {len(records)}" for name, records in dataset.splits.items()
    )
    kinds = [
        f"{name} {count}" + ("" if count else "  <- never seen: is that right?")
        for name, count in zip(names[1:], counts[1:].tolist(), strict=True)
    ]
    if crowds:
        kinds.append(f"regions of a crowd {crowds}")
    mean = sum(numbers) / max(len(numbers), 1)
    return "\n".join(
        [
            f"Data       {dataset.name}: {splits}",
            f"Images     {_shown(sizes, len(train))}",
            f"Objects    {', '.join(kinds)}; {min(numbers, default=0)} to "
            f"{max(numbers, default=0)} an image, {mean:.1f} on average, "
            f"in {len(chosen)} images",
        ]
    )
