"""Shows that tiles give what the whole image gives, and what a large page costs.

    python benchmarks/tiled_equals_whole.py --output=benchmarks/results

Twelve random sizes of image and tile for the padded U-Net and twelve for the unpadded
one, each beside a single pass over the mirrored image; then one large page, with the
peak memory of the process before and after. Weights are random.
"""

from __future__ import annotations

import argparse
import math
import resource
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from results import environment, save

from segjax.models.unet import UNet
from segjax.predict.tiled import Predictor

ALLOWED = 1e-5
CASES = 12


def random_network(padding: str, features: tuple[int, ...]) -> tuple[Any, UNet]:
    """A U-Net with random kernels and biases, so that each pixel of its view counts."""
    model = UNet(num_classes=2, features=features, padding=padding)
    start = jnp.zeros((1, model.geometry.minimum, model.geometry.minimum, 1))
    shapes = jax.eval_shape(
        lambda key: model.init(key, start, train=False), jax.random.key(0)
    )
    generator = np.random.default_rng(0)

    def sample(leaf: Any) -> jax.Array:
        inputs = max(1, math.prod(leaf.shape[:-1]))
        scale = math.sqrt(2 / inputs) if leaf.ndim > 1 else 0.1
        return jnp.asarray(scale * generator.standard_normal(leaf.shape), jnp.float32)

    apply = jax.jit(
        lambda variables, image: model.apply(variables, image, train=False)["logits"]
    )
    return jax.tree_util.Partial(apply, jax.tree.map(sample, shapes)), model


def whole(apply: Any, model: UNet, image: np.ndarray) -> np.ndarray:
    """One pass over the image, mirrored by `numpy.pad` to an accepted size."""
    geometry = model.geometry
    pads = []
    for n in image.shape[:2]:
        missing = geometry.next_accepted(n + 2 * geometry.margin) - n
        pads.append((geometry.margin, missing - geometry.margin))
    canvas = np.pad(image, [*pads, (0, 0)], mode="reflect")
    logits = np.asarray(apply(jnp.asarray(canvas[None])))[0]
    return logits[: image.shape[0], : image.shape[1]]


def compare(padding: str) -> list[dict[str, Any]]:
    """One row for each random size."""
    apply, model = random_network(padding, (8, 16, 32))
    generator = np.random.default_rng(len(padding))
    rows = []
    for case in range(CASES):
        height, width = (int(n) for n in generator.integers(60, 260, 2))
        tile = int(generator.integers(16, 96))
        image = generator.standard_normal((height, width, 1)).astype(np.float32)
        found = Predictor(apply, model.geometry, tile=tile, batch_size=2).logits(image)
        difference = np.abs(found - whole(apply, model, image))
        rows.append(
            {
                "padding": padding,
                "size": [height, width],
                "tile": tile,
                "largest_difference": float(difference.max()),
            }
        )
        print(
            f"{padding:5} {case + 1:2} {height:4} x {width:<4} tile {tile:3}  "
            f"{rows[-1]['largest_difference']:.1e}",
            flush=True,
        )
    return rows


def peak_mib() -> float:
    """Largest resident memory of this process so far, MiB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def large_page(side: int, tile: int) -> dict[str, Any]:
    """Predicts one page; memory is that of the whole process."""
    apply, model = random_network("SAME", (16, 32, 64, 128))
    predictor = Predictor(apply, model.geometry, tile=tile)
    image = np.random.default_rng(0).standard_normal((side, side, 1), np.float32)
    before, begin = peak_mib(), time.perf_counter()
    labels = predictor.labels(image)
    seconds = time.perf_counter() - begin
    return {
        "side": side,
        "tile": tile,
        "shape": list(labels.shape),
        "seconds": seconds,
        "peak_before_mib": before,
        "peak_mib": peak_mib(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--side", type=int, default=4096, help="of the large page")
    parser.add_argument("--tile", type=int, default=512, help="of the large page")
    parser.add_argument("--output", help="folder of the JSON file; none: only print")
    arguments = parser.parse_args()
    found = environment("cpu" if jax.default_backend() == "cpu" else "gpu")
    page = large_page(arguments.side, arguments.tile)
    rows = compare("SAME") + compare("VALID")
    largest = max(row["largest_difference"] for row in rows)
    print(f"Largest difference of the logits: {largest:.1e} (allowed {ALLOWED:g})")
    print(
        f"One page of {page['side']} x {page['side']}, tile {page['tile']}: "
        f"{page['seconds']:.0f} s, peak memory {page['peak_before_mib']:.0f} MiB before "
        f"and {page['peak_mib']:.0f} MiB after"
    )
    report = {**found, "rows": rows, "largest_difference": largest, "page": page}
    save("tiled_equals_whole", report, arguments.output)
    if largest > ALLOWED:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
