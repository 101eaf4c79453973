"""A step of training on eight fake devices, laid out by `config.sharding`: losses, memory, communication.

    python benchmarks/bench_sharding.py --output=benchmarks/results            # all rows
    python benchmarks/bench_sharding.py --rows unet_fsdp deconvnet             # some of them

Each row trains the same steps on the same drawn examples in two layouts, or only compiles where the
network is large. Memory is that of a device: arguments, outputs, temporaries (`memory_analysis`).
Gathered are arrays that devices fetch from each other and that are no divided parameters: maps.
Programs are compiled for CPUs without optimizations, which changes their speed and not their buffers.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import time
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "8")
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

import jax
import numpy as np
from results import environment, save

from segjax import config as config_lib
from segjax.inspect.compiled import collectives_in, gathered_in, memory_of
from segjax.runs.plan import without_counting
from segjax.tasks.table import make_task
from segjax.training.compiled_step import jitted_step
from segjax.training.layout import Layout, check_rows
from segjax.training.sharding import Devices

MIB = 2**20


@dataclasses.dataclass(frozen=True)
class Row:
    """An experiment in two layouts.

    Attributes:
      config: the experiment.
      layouts: by name; the first is what the others are held against.
      batch_size: examples a step.
      steps: how many are trained; 0 compiles alone.
      size: side of the images; None for that of the config.
      changes: of the config.
    """

    config: str
    layouts: dict[str, tuple[int, Layout]]
    batch_size: int = 8
    steps: int = 3
    size: int | None = None
    changes: dict[str, Any] = dataclasses.field(default_factory=dict)


REPLICATED = {"replicated": (8, Layout())}
FSDP = REPLICATED | {"model": (8, Layout(model=8))}
SMALL_FSDP = REPLICATED | {"model": (8, Layout(model=8, min_size=256))}
PASSED_ON = REPLICATED | {"model": (8, Layout(model=8, min_size=256, pass_size=256))}
BY_ROWS = {"one device": (1, Layout()), "rows": (8, Layout(rows=8))}

ROWS = {
    "unet_fsdp": Row("configs/unet_em.py:smoke", SMALL_FSDP),
    "unet_rows": Row("configs/unet_em.py:smoke", BY_ROWS, batch_size=2, size=128),
    "unet_fsdp_and_rows": Row(
        "configs/unet_em.py:smoke",
        {
            "one device": (1, Layout()),
            "2 x 2 x 2": (8, Layout(model=2, rows=2, min_size=256)),
        },
        size=128,
    ),
    "deeplab_v3plus_fsdp": Row("configs/deeplab_v3plus_voc.py:smoke", SMALL_FSDP),
    "deeplab_v3plus_rows": Row(
        "configs/deeplab_v3plus_voc.py:smoke",
        BY_ROWS,
        batch_size=2,
        size=128,
        changes={"model": {"side_remainder": 0}},
    ),
    "deconvnet_fsdp": Row("configs/deconvnet_voc.py:smoke", PASSED_ON),
    "mask_rcnn_fsdp": Row("configs/mask_rcnn_nuclei.py:smoke", SMALL_FSDP),
    "mask_rcnn_data": Row(
        "configs/mask_rcnn_nuclei.py:smoke",
        {"one device": (1, Layout()), "data": (8, Layout())},
    ),
    "deconvnet": Row("configs/deconvnet_voc.py:paper", FSDP, steps=0),
    "deconvnet_compiler": Row(
        "configs/deconvnet_voc.py:paper",
        REPLICATED | {"model, gather=False": (8, Layout(model=8, gather=False))},
        steps=0,
    ),
    "unet_4096": Row("configs/unet_em.py", BY_ROWS, batch_size=1, steps=0, size=4096),
}


def measure(row: Row, name: str) -> tuple[dict[str, Any], Any]:
    """Compiles one layout of a row, and trains in it.

    Returns:
      Its figures, and the parameters in the end.
    """
    count, layout = row.layouts[name]
    config = without_counting(config_lib.load(row.config))
    config.batch_size = row.batch_size
    if row.size is not None:
        config.pipeline.input_size = (row.size, row.size)
    with config.unlocked():
        config.update(row.changes)
    task = make_task(config)
    devices = Devices(jax.devices()[:count], layout)
    check_rows(layout, task)
    channels = 1 if "unet" in row.config else 3
    began = time.perf_counter()
    with devices.lowering():
        state = jax.eval_shape(lambda: task.init_state(channels))
        batch = task.abstract_batch(channels, row.batch_size)
        lowered = jitted_step(task, devices, state, batch).lower(state, batch)
    compiled = lowered.compile()
    text = compiled.as_text()
    memory = memory_of(compiled.memory_analysis())
    figures = {
        "layout": name,
        "devices": devices.described,
        "arguments_mib": memory["arguments"] / MIB,
        "memory_mib": (memory["peak"] - memory["program"]) / MIB,
        "collectives": collectives_in(text),
        "gathered": sorted(
            {str(list(x)) for x in gathered_in(text, devices.divided(state))}
        ),
        "seconds_compiling": time.perf_counter() - began,
    }
    if not row.steps:
        return figures, None
    with devices.lowering():
        fresh = jax.device_get(jax.jit(lambda: task.init_state(channels))())
    trained = devices.put_state(fresh)
    losses = []
    for step in range(row.steps):
        trained, metrics = compiled(trained, devices.put_batch(drawn(batch, step)))
        losses.append(float(metrics["loss"]))
    return {**figures, "losses": losses}, jax.device_get(trained.params)


def drawn(batch: dict[str, Any], seed: int) -> dict[str, np.ndarray]:
    """Examples that are numbers alone, the same for each layout."""
    rng = np.random.default_rng(seed)

    def array(name: str, x: Any) -> np.ndarray:
        if name == "boxes":
            low = rng.uniform(0, 20, (*x.shape[:-1], 2))
            return np.concatenate([low, low + 12], -1).astype(x.dtype)
        if name == "sizes":
            sides = batch["image"].shape[1:3]
            return np.broadcast_to(np.asarray(sides, x.dtype), x.shape).copy()
        if x.dtype == bool:
            return np.ones(x.shape, bool)
        if np.issubdtype(x.dtype, np.integer):
            low = 1 if name == "classes" else 0
            return rng.integers(low, 2, x.shape).astype(x.dtype)
        return (
            rng.normal(size=x.shape) if name == "image" else np.ones(x.shape)
        ).astype(x.dtype)

    return {name: array(name, x) for name, x in batch.items()}


def compared(row: Row) -> dict[str, Any]:
    """All layouts of a row, and how far they are from the first."""
    layouts, parameters = [], []
    for name in row.layouts:
        figures, params = measure(row, name)
        print(json.dumps(figures), flush=True)
        layouts.append(figures)
        parameters.append(params)
    first, last = layouts[0], layouts[-1]
    found: dict[str, Any] = {"memory_ratio": last["memory_mib"] / first["memory_mib"]}
    if row.steps:
        pairs = zip(first["losses"], last["losses"], strict=True)
        found["loss_difference"] = max(abs(a - b) / abs(a) for a, b in pairs)
        leaves = zip(
            *map(jax.tree.leaves, (parameters[0], parameters[-1])), strict=True
        )
        found["parameter_difference"] = max(
            float(np.abs(a - b).max(initial=0)) for a, b in leaves
        )
    size = "" if row.size is None else f", {row.size}x{row.size}"
    what = f"{row.config}, batch {row.batch_size}{size}"
    return {"step": what, **found, "layouts": layouts}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", nargs="*", choices=ROWS, default=list(ROWS))
    parser.add_argument("--output", help="a folder for the result, as JSON")
    args = parser.parse_args()
    rows = []
    for name in args.rows:
        rows.append({"name": name, **compared(ROWS[name])})
        shown = {k: v for k, v in rows[-1].items() if k != "layouts"}
        print(json.dumps(shown), flush=True)
    save("sharding", {**environment("cpu"), "rows": rows}, args.output)


if __name__ == "__main__":
    main()
