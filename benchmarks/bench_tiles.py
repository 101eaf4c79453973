"""Times prediction tile by tile beside whole images: megapixels per second.

    python benchmarks/bench_tiles.py --output=benchmarks/results

The networks are a padded U-Net of 16 features and the same unpadded; weights are random,
since speed does not depend on them. Sizes take turns; the median of the rounds counts.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from results import environment, save

from segjax.models.unet import UNet
from segjax.predict.tiled import Predictor

FEATURES = (16, 32, 64, 128, 256)
TILES = (0, 128, 256, 512)


def measure(padding: str, side: int, rounds: int) -> list[dict[str, Any]]:
    """One row for each tile; each first run, which compiles, is not counted."""
    model = UNet(num_classes=2, features=FEATURES, padding=padding)
    start = jnp.zeros((1, model.geometry.minimum, model.geometry.minimum, 1))
    init = jax.jit(lambda key: model.init(key, start, train=False))
    apply = jax.tree_util.Partial(
        lambda variables, image: model.apply(variables, image, train=False)["logits"],
        init(jax.random.key(0)),
    )
    image = np.random.default_rng(0).normal(size=(side, side, 1)).astype(np.float32)
    predictors = {t: Predictor(apply, model.geometry, tile=t) for t in TILES}
    seconds: dict[int, list[float]] = {tile: [] for tile in TILES}
    for count in range(rounds + 1):
        for tile, predictor in predictors.items():
            begin = time.perf_counter()
            predictor.labels(image)
            if count:
                seconds[tile].append(time.perf_counter() - begin)
    return [
        {
            "what": f"{padding} features {FEATURES[0]}",
            "side": side,
            "tile": tile,
            "seconds": statistics.median(times),
            "megapixels_per_second": side**2 / 1e6 / statistics.median(times),
        }
        for tile, times in seconds.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", help="folder of the JSON file; none: only print")
    arguments = parser.parse_args()
    found = environment("cpu" if jax.default_backend() == "cpu" else "gpu")
    rows = []
    for padding in ("SAME", "VALID"):
        rows += measure(padding, arguments.side, arguments.rounds)
    for row in rows:
        print(
            f"{row['what']}, tile {row['tile']}: "
            f"{row['megapixels_per_second']:.2f} megapixels/s"
        )
    save("tiles", {**found, "rows": rows}, arguments.output)


if __name__ == "__main__":
    main()
