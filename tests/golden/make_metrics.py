"""Makes metrics.npz: Rand errors of random cell maps by scikit-image 0.26.

Run in this folder: python make_metrics.py (wants scikit-image, scipy, numpy).
"""

from pathlib import Path

import numpy as np
import skimage
from scipy import ndimage
from skimage.metrics import adapted_rand_error

SIDE = 64


def random_cells(rng: np.random.Generator) -> np.ndarray:
    """Cells nearest to random seeds, membrane where two meet."""
    seeds = rng.uniform(0, SIDE, (12, 2))
    rows, columns = np.mgrid[:SIDE, :SIDE]
    distances = (rows - seeds[:, :1, None]) ** 2 + (columns - seeds[:, 1:, None]) ** 2
    nearest = distances.argmin(0)
    membrane = ndimage.maximum_filter(nearest, 3) != ndimage.minimum_filter(nearest, 3)
    return np.where(membrane, 0, nearest + 1)


def main() -> None:
    rng = np.random.default_rng(2012)
    cells = random_cells(rng)
    score = ndimage.gaussian_filter((cells > 0) + rng.normal(0, 0.8, cells.shape), 1)
    predictions = {
        "the_truth": cells,
        "renumbered": np.where(cells, 40 - 3 * cells, 0),
        "merged_pairs": (cells + 1) // 2,
        "one_segment": np.ones_like(cells),
        "all_membrane": np.zeros_like(cells),
        "split_in_half": np.where(cells, cells + 20 * (np.arange(SIDE) > 30), 0),
        "other_cells": random_cells(rng),
        "thick_membrane": np.where(ndimage.minimum_filter(cells > 0, 5), cells, 0),
        "noisy_low": ndimage.label(score > 0.4)[0],
        "noisy_high": ndimage.label(score > 0.8)[0],
    }
    values = {name: adapted_rand_error(cells, p) for name, p in predictions.items()}
    np.savez_compressed(
        Path(__file__).with_name("metrics.npz"),
        scikit_image=skimage.__version__,
        truth=cells.astype(np.uint16),
        names=list(predictions),
        predictions=np.stack(list(predictions.values())).astype(np.uint16),
        rand=np.array(list(values.values())),
    )
    for name, value in values.items():
        print(name, *np.round(value, 4))


if __name__ == "__main__":
    main()
