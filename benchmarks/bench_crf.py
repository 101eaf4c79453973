"""Times the fully connected CRF beside pydensecrf, in turns, in one process.

    pip install --no-deps pydensecrf2==1.1
    python benchmarks/bench_crf.py --output=benchmarks/results

Each round waits for a quiet machine (or gives up waiting, and says so by its load), then
runs both once; the ratio is the median over rounds, above 1 segjax is faster. "whole" is
from pixels to marginals, one call of `dense_crf`, "steps" without the building of lattices
and norms. The lattice of positions is built once for images of one size, by pydensecrf for
each image. Compiling is not counted: it happens once for images of one size. Wall time and
processor time of all threads. The image is rendered so that its lattices are those of
photographs: 24,248, 193,903 and 441,981 vertices at the three pairs of widths, where five
of PASCAL VOC have 25,930, 173,089 and 277,989 in the middle.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from results import environment, save
from scipy.ndimage import gaussian_filter

from segjax.ops.crf.dense import dense_crf
from segjax.ops.crf.filters import crf_filters
from segjax.ops.crf.inference import make_kernel, mean_field

# Height, width, labels, sigma alpha, beta, gamma.
CASES = (
    (375, 500, 21, 80.0, 13.0, 3.0),
    (375, 500, 21, 49.0, 5.0, 3.0),
    (375, 500, 21, 67.0, 3.0, 1.0),
    (512, 512, 2, 80.0, 13.0, 3.0),
)
WEIGHTS = (4.0, 3.0)


def random_case(height: int, width: int, labels: int) -> tuple[np.ndarray, np.ndarray]:
    """An image `[H, W, 3]` uint8, and logits `[H, W, K]` of blobs."""
    generator = np.random.default_rng(0)
    regions = gaussian_filter(generator.normal(size=(height, width, 3)), (25, 25, 0))
    shades = gaussian_filter(generator.normal(size=(height, width, 3)), (4, 4, 0))
    image = 120 + 60 * np.sign(regions) + 1500 * regions + 150 * shades
    image += generator.normal(0, 2, image.shape)
    blobs = gaussian_filter(generator.normal(size=(height, width, labels)), (15, 15, 0))
    logits = (60 * blobs + generator.normal(size=blobs.shape)).astype(np.float32)
    return image.clip(0, 255).astype(np.uint8), logits


def peer(image: np.ndarray, logits: np.ndarray, widths: tuple[float, ...]):
    """Functions that build the CRF of pydensecrf, run its steps, and do both."""
    import pydensecrf.densecrf as densecrf

    alpha, beta, gamma = widths
    height, width, labels = logits.shape
    unary = np.ascontiguousarray(-logits.reshape(-1, labels).T)

    def build():
        crf = densecrf.DenseCRF2D(width, height, labels)
        crf.setUnaryEnergy(unary)
        crf.addPairwiseGaussian(sxy=gamma, compat=WEIGHTS[1])
        crf.addPairwiseBilateral(sxy=alpha, srgb=beta, rgbim=image, compat=WEIGHTS[0])
        return crf

    def run(crf, steps: int) -> np.ndarray:
        return np.asarray(crf.inference(steps))

    return build, run, lambda steps: run(build(), steps)


def ours(image: np.ndarray, logits: np.ndarray, widths: tuple[float, ...]):
    """Functions that build the kernels, run the steps, and do both in one call."""
    height, width, labels = logits.shape
    alpha, beta, gamma = widths
    flat = jnp.asarray(logits.reshape(-1, labels))
    kernel = jax.jit(make_kernel, static_argnames=("num_pixels", "normalization"))
    run = jax.jit(
        lambda logits, kernels, steps: (
            mean_field(logits, kernels, num_iterations=steps).marginals
        ),
        static_argnums=2,
    )

    def build():
        filters = crf_filters(jnp.asarray(image), *widths, method="lattice")
        kernels = [
            kernel(filter, num_pixels=height * width, compatibility=weight)
            for filter, weight in zip(filters, WEIGHTS, strict=True)
        ]
        return jax.block_until_ready(kernels)

    def whole(steps: int) -> np.ndarray:
        marginals = dense_crf(
            jnp.asarray(image),
            jnp.asarray(logits),
            sigma_alpha=alpha,
            sigma_beta=beta,
            sigma_gamma=gamma,
            w1=WEIGHTS[0],
            w2=WEIGHTS[1],
            num_iterations=steps,
            method="lattice",
        )
        return np.asarray(marginals)

    return build, lambda kernels, steps: np.asarray(run(flat, kernels, steps)), whole


def timed(work: Callable[[], Any]) -> tuple[Any, tuple[float, float]]:
    """The result of the work; seconds, and seconds of all threads together."""
    wall, used = time.perf_counter(), time.process_time()
    result = work()
    return result, (time.perf_counter() - wall, time.process_time() - used)


def wait_for_quiet(most: float, patience: float) -> None:
    end = time.monotonic() + patience
    while os.getloadavg()[0] > most and time.monotonic() < end:
        time.sleep(1)


def measure(case: tuple, steps: int, arguments: argparse.Namespace) -> dict[str, Any]:
    *size, labels, alpha, beta, gamma = case
    image, logits = random_case(*size, labels)
    programs = {
        "pydensecrf": peer(image, logits, (alpha, beta, gamma)),
        "segjax": ours(image, logits, (alpha, beta, gamma)),
    }
    labels_of = {}
    for name, (build, run, whole) in programs.items():
        marginals = run(build(), steps)
        labels_of[name] = marginals.argmax(1 if name == "segjax" else 0)
        whole(steps)
    same = (labels_of["segjax"] == labels_of["pydensecrf"]).mean()
    rounds: dict[str, list[Any]] = {name: [] for name in programs}
    for _ in range(arguments.rounds):
        wait_for_quiet(arguments.load, arguments.patience)
        for name, (build, run, whole) in programs.items():
            built = build()
            _, of_steps = timed(lambda run=run, built=built: run(built, steps))
            _, of_whole = timed(lambda whole=whole: whole(steps))
            rounds[name].append((of_whole, of_steps))
    result: dict[str, Any] = {
        "what": f"{size[1]}x{size[0]}, {labels} labels, {alpha:g}/{beta:g}/{gamma:g}",
        "steps": steps,
        "labels_equal": float(same),
    }
    for index, clock in enumerate(("wall", "cpu")):
        for part, what in enumerate(("whole", "steps")):
            times = {
                name: [both[part][index] for both in of] for name, of in rounds.items()
            }
            ratios = [
                a / b for a, b in zip(times["pydensecrf"], times["segjax"], strict=True)
            ]
            result[f"{clock}_{what}"] = {
                "seconds": {name: statistics.median(t) for name, t in times.items()},
                "ratio": statistics.median(ratios),
                "ratio_range": [min(ratios), max(ratios)],
            }
    return result


def peak_memory(case: tuple) -> float:
    """Megabytes of the process after one call for the image of a case."""
    height, width, labels, alpha, beta, gamma = case
    _, _, whole = ours(*random_case(height, width, labels), (alpha, beta, gamma))
    whole(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, nargs="+", default=[5, 10])
    parser.add_argument("--cases", type=int, nargs="+", default=range(len(CASES)))
    parser.add_argument("--load", type=float, default=0.5, help="what counts as quiet")
    parser.add_argument("--patience", type=float, default=60, help="seconds to wait")
    parser.add_argument("--output", help="folder of the JSON file; none: only print")
    arguments = parser.parse_args()
    found = environment("cpu" if jax.default_backend() == "cpu" else "gpu")
    memory = peak_memory(CASES[0])
    print(f"peak memory of the process, 500x375, 21 labels: {memory:.0f} MB")
    rows = []
    for index in arguments.cases:
        for steps in arguments.steps:
            row = measure(CASES[index], steps, arguments)
            rows.append(row)
            print(f"{row['what']}, {steps} steps, labels {row['labels_equal']:.5f}:")
            for name in ("wall_whole", "wall_steps", "cpu_whole", "cpu_steps"):
                seconds = row[name]["seconds"]
                low, high = row[name]["ratio_range"]
                print(
                    f"  {name}: pydensecrf {1e3 * seconds['pydensecrf']:.0f} ms, segjax "
                    f"{1e3 * seconds['segjax']:.0f} ms, ratio {row[name]['ratio']:.2f} "
                    f"({low:.2f} to {high:.2f})"
                )
    save("crf", {**found, "peak_megabytes": memory, "rows": rows}, arguments.output)


if __name__ == "__main__":
    main()
