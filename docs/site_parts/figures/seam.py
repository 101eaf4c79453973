"""The seam that a wrong step of tiles makes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

import segjax
from segjax.data.normalization import normalize
from segjax.geometry.tiles import mirror_indices
from segjax.viz import plot_maps

from . import packed, quantized, scenes, unpacked

TITLE = "The step of tiles, and the seam"
CAPTION = (
    "A strip of drawn nuclei, predicted tile by tile with the nuclei network that comes with segjax, its "
    "convolutions unpadded as in the paper's U-Net. A tile gives 68 pixels, so a step of 68 seems to be right. "
    "But 68 is no multiple of the stride of 16: poolings fall on other pairs, and the tiled prediction differs "
    "from the whole one. At 48 and at 64 it does not."
)
ALTERNATIVE = "The strip, its prediction, and the difference from the whole for steps of 64 and 68 pixels; only the first is black."

HEIGHT, WIDTH, TILE = 36, 212, 68
STEPS = tuple(range(40, 70, 4))
FLOOR, CEILING = -6.0, 0.0
"""Powers of ten between which differences are shown."""


class Unpadded(NamedTuple):
    """The shipped network without padding, and its image.

    Attributes:
      predict: P(nucleus) `[H, side]` of a tile, by its first column and its side; beyond the
        strip, what it sees is mirrored.
      stride: its stride.
    """

    predict: Callable[[int, int], np.ndarray]
    stride: int


def network() -> Unpadded:
    """Loads the network, and makes its image ready."""
    trained = segjax.load("nuclei")
    task: Any = trained.task
    net = task.model.clone(padding="VALID")

    @jax.jit
    def run(image: jax.Array) -> jax.Array:
        logits = net.apply(trained.variables, image[None], train=False)["logits"]
        return jax.nn.softmax(logits)[0, :, :, 1]

    def predict(start: int, side: int) -> np.ndarray:
        columns = slice(start, start + side + 2 * margin)
        return np.asarray(run(jnp.asarray(canvas[:, columns], jnp.float32)))

    stored = np.rint(255 * strip()).astype(np.uint8)
    image = normalize(np.repeat(stored[..., None], 3, -1), task.normalization)
    margin = net.geometry.margin
    rows, columns = (mirror_indices(-margin, n + margin, n) for n in stored.shape)
    canvas = image[np.ix_(rows, columns)]
    return Unpadded(functools.cache(predict), net.geometry.stride)


def strip() -> np.ndarray:
    """The image, grey from 0 to 1, `[36, 212]`."""
    return scenes.photograph(scenes.nuclei(HEIGHT, WIDTH, count=80, seed=5))


def tiled(network: Unpadded, step: int) -> np.ndarray:
    """Puts tiles side by side, as one does without a second thought.

    Args:
      network: of `network`.
      step: pixels from one tile to the next, at most `TILE`; the last tile ends with the image.

    Returns:
      P(nucleus) `[H, W]`.
    """
    found = np.zeros((HEIGHT, WIDTH), np.float32)
    starts = [*range(0, WIDTH - TILE, step), WIDTH - TILE]
    for start in starts:
        part = network.predict(start, TILE)
        stop = start + (step if start != starts[-1] else TILE)
        found[:, start:stop] = part[:, : stop - start]
    return found


def data() -> dict[str, Any]:
    """The strip, its prediction, and the differences for all steps."""
    unpadded = network()
    whole = unpadded.predict(0, WIDTH)
    found = {}
    for step in STEPS:
        difference = abs(tiled(unpadded, step) - whole)
        shown = (np.log10(difference + 1e-12) - FLOOR) / (CEILING - FLOOR)
        found[str(step)] = {
            "difference": packed(quantized(shown)),
            "largest": float(f"{difference.max():.3g}"),
            "changed": int((difference > 0.01).sum()),
        }
    return {
        "height": HEIGHT,
        "width": WIDTH,
        "tile": TILE,
        "stride": unpadded.stride,
        "image": packed(quantized(strip())),
        "whole": packed(quantized(whole)),
        "steps": found,
    }


def picture(data: dict[str, Any]) -> Image.Image:
    """The strip, the prediction, and two differences."""
    size = (HEIGHT, WIDTH)
    panels = [
        ("image", unpacked(data["image"], size)),
        ("P(nucleus)", unpacked(data["whole"], size)),
    ]
    panels += [
        (
            f"step {step}: largest difference {data['steps'][step]['largest']:.2g}",
            unpacked(data["steps"][step]["difference"], size) / 255,
        )
        for step in ("64", "68")
    ]
    shown = [
        (
            title,
            np.repeat((255 * (x / max(1, x.max()))).astype(np.uint8)[..., None], 3, 2),
        )
        for title, x in panels
    ]
    return plot_maps(shown, columns=1, side=5.5, dpi=80)
