"""Memory of a step of training with `config.model.remat` and without, from the compiled program.

    python benchmarks/bench_remat.py --output=benchmarks/results                   # this backend
    python benchmarks/bench_remat.py --platform=tpu --output=benchmarks/results    # a v5e, described

Two figures a row. Kept: bytes that the backward pass takes from the forward one, counted on the
program before compilation, parameters left out. Temporary: what the compiled step allocates besides
its arguments and results (`memory_analysis`). XLA's CPU backend has no pass that keeps the second
computation late, so there the temporaries need not fall as what is kept does. With
`--platform=tpu` no device is wanted, but the package libtpu (`pip install "jax[tpu]"`).
"""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-4")
os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
os.environ.setdefault("TPU_WORKER_ID", "0")

import jax
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding
from results import environment, save

from segjax import config as config_lib
from segjax.data import channels_of
from segjax.ops.base.forms import lowering_for
from segjax.tasks.table import make_task
from segjax.training.step import forward_image

ROWS = (
    ("configs/unet_em.py:paper", 4),
    ("configs/deeplab_v3_voc.py", 4),
    ("configs/pspnet_voc.py", 2),
)
"""Configs, and images a step."""
FAST_COMPILE = {"exec_time_optimization_effort": -1.0}
"""Of the TPU's compiler; at its own effort a step takes minutes."""
MIB = 2**20


def measure(
    name: str, batch_size: int, remat: bool, platform: str, compiles: bool
) -> dict[str, Any]:
    """Traces one step of training, compiles it where that is wanted, and counts bytes."""
    config = config_lib.load(name)
    config.model.remat = remat
    config.batch_size = batch_size
    task = make_task(config)
    channels = channels_of(config.data)
    state = jax.eval_shape(lambda: task.init_state(channels))
    batch = task.abstract_batch(channels, batch_size)

    def backward(params: Any, state: Any, batch: Any) -> Any:
        def loss(params: Any) -> Any:
            variables = {"params": params, "batch_stats": state.batch_stats}
            key = jax.random.key(0)
            return task.loss(forward_image(task.model, variables, batch, key)[0], batch)

        return jax.vjp(loss, params, has_aux=False)[1]

    begin = time.time()
    with lowering_for(platform):
        kept = jax.tree.leaves(jax.eval_shape(backward, state.params, state, batch))
        row = {
            "config": name,
            "batch_size": batch_size,
            "remat": remat,
            "kept_mib": sum(x.size * x.dtype.itemsize for x in kept) / MIB,
        }
        if not compiles:
            return row
        at = SingleDeviceSharding(device_of(platform))
        step = jax.jit(task.train_step, donate_argnums=0, in_shardings=at)
        lowered = step.trace(state, batch).lower(lowering_platforms=(platform,))
        options = FAST_COMPILE if platform == "tpu" else None
        memory = lowered.compile(compiler_options=options).memory_analysis()
    temporary = memory.temp_size_in_bytes / MIB
    return {**row, "temporary_mib": temporary, "seconds": time.time() - begin}


def device_of(platform: str) -> Any:
    """A device of this machine, or a described TPU."""
    if platform != "tpu":
        return jax.devices(platform)[0]
    one = {"chips_per_host_bounds": (1, 1, 1)}
    topology = topologies.get_topology_desc("v5e:1x1", "tpu", **one)
    return topology.devices[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--platform", choices=("cpu", "tpu"), default="cpu")
    parser.add_argument("--rows", type=int, nargs="*", default=range(len(ROWS)))
    parser.add_argument(
        "--trace_only", action="store_true", help="count what is kept, compile nothing"
    )
    parser.add_argument("--output", help="a folder for the result, as JSON")
    args = parser.parse_args()
    rows = []
    for i in args.rows:
        for remat in (False, True):
            row = measure(*ROWS[i], remat, args.platform, not args.trace_only)
            print(row, flush=True)
            rows.append(row)
    target = "v5e:1x1, described" if args.platform == "tpu" else "this CPU"
    target = "nothing" if args.trace_only else target
    result = {**environment("cpu"), "compiled_for": target, "rows": rows}
    save("remat" if args.platform == "cpu" else "remat_tpu", result, args.output)


if __name__ == "__main__":
    main()
