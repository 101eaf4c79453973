"""Times operators of regions in segjax beside torchvision's, on a CPU.

    python benchmarks/bench_regions.py

Non-maximum suppression of 4,000 boxes, RoIAlign and RoIPool of 1,000 regions on a map of
200x272x256, forward and with the gradient of the map. Both get the same boxes and
numbers; what comes out is compared before anything is timed. The two take turns
(benchmarks/turns.py), each in a process of its own. torchvision's operators need a C
compiler where PyTorch knows no CUDA (tests/torchvision_operators.py).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from results import commit_of, environment, save
from turns import beside, compare, in_words, peak_megabytes, serve

from segjax.training.malloc import keep_freed_memory

STRIDE, BINS = 4, 7
ALLOWED = 1e-3
"""Relative difference of the sums of absolute values; kept boxes are counted."""


class Case(NamedTuple):
    """One row: `what` of a number of regions, on a map of a number of cells."""

    what: str
    regions: int
    height: int = 200
    width: int = 272
    channels: int = 256


WHATS = (
    "nms",
    "roi_align",
    "roi_align and gradient",
    "roi_pool",
    "roi_pool and gradient",
)
CASES = (
    Case("nms", 1000),
    Case("nms", 4000),
    *(Case(what, 1000) for what in WHATS[1:]),
)
SMOKE = (Case("nms", 300), *(Case(what, 20, 20, 27, 8) for what in WHATS[1:]))


def random_boxes(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Boxes in pixels and scores: crowded around objects, as proposals are."""
    rng = np.random.default_rng(0)
    image = np.array([case.height, case.width]) * STRIDE
    objects = max(1, case.regions // 40)
    center = rng.uniform(0.1, 0.9, (objects, 2)) * image
    side = np.exp(rng.uniform(np.log(0.03), np.log(0.6), (objects, 2))) * image
    which = rng.integers(0, objects, case.regions)
    center = center[which] + rng.normal(size=(case.regions, 2)) * side[which] * 0.1
    side = side[which] * np.exp(0.15 * rng.normal(size=(case.regions, 2)))
    boxes = np.concatenate([center - side / 2, center + side / 2], 1)
    boxes = np.clip(boxes, 0, np.tile(image, 2)).astype(np.float32)
    return boxes, rng.random(case.regions).astype(np.float32)


def random_map(case: Case) -> np.ndarray:
    shape = (1, case.height, case.width, case.channels)
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def segjax_run(case: Case) -> tuple[Callable[[], Any], float]:
    """Returns what to time (it waits for its result), and a number to compare."""
    import jax
    import jax.numpy as jnp

    from segjax.ops.regions.alignment import roi_align
    from segjax.ops.regions.pooling import roi_pool
    from segjax.ops.regions.suppression import nms

    boxes, scores = map(jnp.asarray, random_boxes(case))
    if case.what == "nms":
        keep = jax.jit(lambda boxes, scores: nms(boxes, scores, iou_threshold=0.7))
        run = lambda: keep(boxes, scores).block_until_ready()
        return run, float(run().sum())
    options = {"size": BINS, "scale": 1 / STRIDE}
    method = roi_align if case.what.startswith("roi_align") else roi_pool
    if method is roi_align:
        options["aligned"] = False

    def regions(features: jax.Array, boxes: jax.Array) -> jax.Array:
        return method(features, boxes[None], **options)

    def gradient(features: jax.Array, boxes: jax.Array) -> jax.Array:
        result, pullback = jax.vjp(lambda x: regions(x, boxes), features)
        return pullback(result)[0]

    wanted = jax.jit(gradient if "gradient" in case.what else regions)
    features = jnp.asarray(random_map(case))
    run = lambda: wanted(features, boxes).block_until_ready()
    return run, float(jnp.abs(run()).sum())


def torch_run(case: Case) -> tuple[Callable[[], Any], float]:
    """Returns what to time, and a number to compare."""
    import torch
    from torch_systems import torchvision

    ops: Any = torchvision()
    if not ops.extension._has_ops():
        raise SystemExit("torchvision's operators did not load: a C compiler is needed")
    ops = ops.ops
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    arrays = random_boxes(case)
    boxes, scores = torch.from_numpy(arrays[0][:, [1, 0, 3, 2]].copy()), arrays[1]
    if case.what == "nms":
        keep = lambda: ops.nms(boxes, torch.from_numpy(scores), 0.7)
        return keep, float(len(keep()))
    # The operator wants its own order of axes; to bring maps into it is not timed.
    features = torch.from_numpy(random_map(case).transpose(0, 3, 1, 2).copy())
    of_gradient = "gradient" in case.what
    features.requires_grad_(of_gradient)
    name = case.what.split()[0]
    extra = (2, False) if name == "roi_align" else ()

    def run() -> Any:
        result = getattr(ops, name)(features, [boxes], BINS, 1 / STRIDE, *extra)
        if not of_gradient:
            return result
        features.grad = None
        result.backward(result.detach())
        return features.grad

    return run, float(run().abs().sum())


RUNS = {"segjax": segjax_run, "torch": torch_run}


def measure_peak(library: str, case: Case) -> float:
    keep_freed_memory()
    used = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    RUNS[library](Case(case.what, 20, 20, 27, 8))  # Imports and compilers.
    before = used()
    RUNS[library](case)[0]()
    return used() - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--what", nargs="+", choices=WHATS, default=[*WHATS])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--smoke", action="store_true", help="tiny cases, two rounds")
    parser.add_argument(
        "--against", help="folder of another checkout: segjax beside it"
    )
    parser.add_argument("--output", help="folder of the JSON file; none: only print")
    parser.add_argument("--worker", choices=sorted(RUNS), help=argparse.SUPPRESS)
    parser.add_argument("--case", type=json.loads, help=argparse.SUPPRESS)
    parser.add_argument("--peak", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    os.environ["JAX_PLATFORMS"] = "cpu"
    if arguments.worker:
        case = Case(*arguments.case)
        if arguments.peak:
            print(measure_peak(arguments.worker, case))
        else:
            serve(lambda: RUNS[arguments.worker](case))
        return
    found = environment("cpu")
    rounds, steps = (2, 1) if arguments.smoke else (arguments.rounds, arguments.steps)
    rows = []
    for case in SMOKE if arguments.smoke else CASES:
        if case.what not in arguments.what:
            continue
        commands = {
            name: [__file__, f"--worker={name}", f"--case={json.dumps(case)}"]
            for name in RUNS
        }
        commands = beside(commands, arguments.against)
        row = compare(commands, rounds=rounds, steps=steps, allowed=ALLOWED)
        row["peak_megabytes"] = {n: peak_megabytes(c) for n, c in commands.items()}
        rows.append({**case._asdict(), **row})
        print(f"{tuple(case)}: {in_words(row)}", flush=True)
    found["commit"] = commit_of(Path(__file__).parent)
    found["against"] = arguments.against and commit_of(arguments.against)
    save("regions", {**found, "rows": rows}, arguments.output)


if __name__ == "__main__":
    main()
