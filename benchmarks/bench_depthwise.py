"""Times depthwise convolution in segjax, as XLA has it, and in PyTorch, on a CPU.

    python benchmarks/bench_depthwise.py

Forward, the gradient of the image and that of the kernel, 3x3, float32. The three take
turns (A B C A B C) in one process, with as many threads; their numbers are compared
before anything is timed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from results import environment, save


class Case(NamedTuple):
    """One row: a map `[batch, side, side, channels]` and where the taps lie."""

    batch: int
    side: int
    channels: int
    stride: int = 1
    dilation: int = 1


CASES = (
    Case(1, 256, 32),
    Case(2, 65, 256),
    Case(2, 33, 728),
    Case(2, 33, 728, dilation=2),
    Case(2, 129, 128, stride=2),
)
"""Of MobileNet v2 and Xception-65; the first is that of the plain form's complaint."""

TOLERANCE = 1e-4
Step = Callable[[], np.ndarray]


def random_case(case: Case) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image, kernel, and cotangent of the result."""
    rng = np.random.default_rng(0)
    side = (case.side - 1) // case.stride + 1
    shapes = (
        (case.batch, case.side, case.side, case.channels),
        (3, 3, 1, case.channels),
        (case.batch, side, side, case.channels),
    )
    x, kernel, cotangent = (rng.normal(size=s).astype(np.float32) for s in shapes)
    return x, kernel, cotangent


def jax_steps(case: Case, stock: bool) -> dict[str, Step]:
    import jax
    import jax.numpy as jnp

    from segjax.ops.base.lax_conv import Options, stock_conv
    from segjax.ops.convolution.convolve import conv

    margin = ((case.dilation,) * 2,) * 2
    options = Options((case.stride,) * 2, margin, (case.dilation,) * 2, case.channels)
    apply = partial(
        conv,
        stride=case.stride,
        padding=case.dilation,
        dilation=case.dilation,
        groups=case.channels,
    )
    if stock:
        apply = partial(stock_conv, options=options)
    x, kernel, cotangent = map(jnp.asarray, random_case(case))
    forward = jax.jit(apply)
    image = jax.jit(lambda x, k, g: jax.vjp(lambda x: apply(x, k), x)[1](g)[0])
    taps = jax.jit(lambda x, k, g: jax.vjp(lambda k: apply(x, k), k)[1](g)[0])
    return {
        "forward": lambda: np.asarray(forward(x, kernel)),
        "image gradient": lambda: np.asarray(image(x, kernel, cotangent)),
        "kernel gradient": lambda: np.asarray(taps(x, kernel, cotangent)),
    }


def torch_steps(case: Case) -> dict[str, Step]:
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    x, kernel, cotangent = random_case(case)

    def channels_last(array: np.ndarray) -> torch.Tensor:
        tensor = torch.from_numpy(array.transpose(0, 3, 1, 2))
        return tensor.contiguous(memory_format=torch.channels_last)

    image, gradient = channels_last(x), channels_last(cotangent)
    taps = torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy())
    geometry = ([case.stride] * 2, [case.dilation] * 2, [case.dilation] * 2)

    def backward(wanted: list[bool]) -> tuple[torch.Tensor, ...]:
        return torch.ops.aten.convolution_backward(
            gradient, image, taps, None, *geometry, False, [0, 0], case.channels, wanted
        )

    def forward() -> np.ndarray:
        y = torch.nn.functional.conv2d(image, taps, None, *geometry, case.channels)
        return y.numpy().transpose(0, 2, 3, 1)

    return {
        "forward": forward,
        "image gradient": lambda: (
            backward([True, False, False])[0].numpy().transpose(0, 2, 3, 1)
        ),
        "kernel gradient": lambda: (
            backward([False, True, False])[1].numpy().transpose(2, 3, 1, 0)
        ),
    }


def compare(
    case: Case, what: str, steps: dict[str, Step], rounds: int
) -> dict[str, Any]:
    """Lets all take turns; a ratio below 1 says that segjax is faster than PyTorch."""
    results = {name: step() for name, step in steps.items()}
    scale = np.abs(results["torch"]).max()
    for name, result in results.items():
        if np.abs(result - results["torch"]).max() > TOLERANCE * scale:
            raise SystemExit(f"{name} gives other numbers than PyTorch: {case}, {what}")
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - start)
    ratios = [a / b for a, b in zip(seconds["segjax"], seconds["torch"], strict=True)]
    return {
        **case._asdict(),
        "what": what,
        "seconds": {name: statistics.median(s) for name, s in seconds.items()},
        "fastest_seconds": {name: min(s) for name, s in seconds.items()},
        "ratio": statistics.median(ratios),
        "ratio_range": [min(ratios), max(ratios)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--output", help="folder of the JSON file; none: only print")
    arguments = parser.parse_args()
    os.environ["JAX_PLATFORMS"] = "cpu"
    found = environment("cpu")
    rows = []
    for case in CASES:
        libraries = {
            "segjax": jax_steps(case, stock=False),
            "stock": jax_steps(case, stock=True),
            "torch": torch_steps(case),
        }
        for what in libraries["segjax"]:
            steps = {name: library[what] for name, library in libraries.items()}
            row = compare(case, what, steps, arguments.rounds)
            rows.append(row)
            times = ", ".join(
                f"{name} {1e3 * s:.2f} ms" for name, s in row["seconds"].items()
            )
            print(
                f"{tuple(case)} {what}: {times}, ratio {row['ratio']:.2f}", flush=True
            )
    save("depthwise", {**found, "rows": rows}, arguments.output)


if __name__ == "__main__":
    main()
