"""Receptive fields of networks, measured by gradients, pixel by pixel."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from segjax.inspect.effective_field import applied, random_variables
from segjax.layers import Conv
from segjax.models import UNet
from segjax.types import Array
from segjax.viz import Field, plot_fields

from . import packed, quantized, scenes

TITLE = "What a pixel of the output sees"
CAPTION = (
    "Move over the image: the frame is what the output pixel under the cursor depends on, and the rest is dark. "
    "Measured with segjax, pixel by pixel: the gradient of that output with respect to the image is "
    "not zero there. Networks with strides see in steps; at the border the frame ends with the image."
)
ALTERNATIVE = (
    "The gradient of the middle pixel of four networks, with the window that it fills."
)

SIDE = 64
IMAGES = 4


class Stack(nn.Module):
    """Convolutions of 3x3, one after another, with ReLUs between.

    Attributes:
      dilations: of each.
    """

    dilations: tuple[int, ...]

    @nn.compact
    def __call__(self, image: Array) -> dict[str, Array]:
        """Maps `[B, H, W, C]` to logits of the same size."""
        x = image
        for i, dilation in enumerate(self.dilations):
            conv = Conv(4, padding=dilation, dilation=dilation, name=f"conv{i}")
            x = conv(nn.relu(x) if i else x)
        return {"logits": x}


def networks() -> dict[str, nn.Module]:
    """The networks, few channels wide: fields do not depend on the width."""
    options: dict[str, Any] = {"padding": "SAME", "dropout_rate": 0.0}
    return {
        "three convolutions": Stack((1, 1, 1)),
        "three, dilated by 1, 2, 4": Stack((1, 2, 4)),
        "U-Net, two levels": UNet(2, features=(3, 4), **options),
        "U-Net, three levels": UNet(2, features=(3, 4, 5), **options),
    }


def gradients(network: nn.Module, pixels: np.ndarray) -> np.ndarray:
    """How much each pixel of the image matters to some pixels of the output.

    Args:
      network: gives logits of the size of its image.
      pixels: their rows and columns, `[N, 2]`.

    Returns:
      float32 `[N, 64, 64]`: the gradient's size, mean over random images.
    """
    run = applied(
        network, random_variables(network, (SIDE, SIDE), channels=1), "logits"
    )
    rng = np.random.default_rng(0)
    image = jnp.asarray(rng.normal(size=(IMAGES, SIDE, SIDE, 1)), jnp.float32)
    logits, pull = jax.vjp(run, image)
    factors = jnp.asarray(rng.normal(size=logits.shape[-1]), jnp.float32)

    @jax.jit
    def one(pixel: Array) -> Array:
        wanted = jnp.zeros_like(logits).at[:, pixel[0], pixel[1]].set(factors)
        return jnp.abs(pull(wanted)[0]).mean((0, 3))

    return np.asarray(jax.lax.map(one, jnp.asarray(pixels)))


def windows(gradient: np.ndarray) -> np.ndarray:
    """First and last seen row and column of each, `[N, 4]`, last ones exclusive."""
    found = []
    for one in gradient > 0:
        rows, columns = np.flatnonzero(one.any(1)), np.flatnonzero(one.any(0))
        found.append((rows[0], columns[0], rows[-1] + 1, columns[-1] + 1))
    return np.array(found)


def data() -> dict[str, Any]:
    """Windows along the diagonal, which give those of all pixels, and the middle's gradient."""
    diagonal = np.stack([np.arange(SIDE)] * 2, 1)
    off = np.array([(5, 40), (50, 13), (31, 60)])
    found = {}
    for name, network in networks().items():
        gradient = gradients(network, np.concatenate([diagonal, off]))
        seen = windows(gradient)
        # Rows and columns do not know of each other, so the diagonal has all windows.
        for (row, column), window in zip(off, seen[SIDE:], strict=True):
            expected = seen[row][0], seen[column][1], seen[row][2], seen[column][3]
            assert (window == expected).all(), (name, row, column)
        middle = np.sqrt(gradient[SIDE // 2] / gradient[SIDE // 2].max())
        found[name] = {
            "rows": seen[:SIDE, (0, 2)].tolist(),
            "columns": seen[:SIDE, (1, 3)].tolist(),
            "middle": packed(quantized(middle)),
        }
    image = scenes.photograph(scenes.nuclei(SIDE, SIDE, count=40))
    return {"side": SIDE, "image": packed(quantized(image)), "networks": found}


def picture(data: dict[str, Any]) -> Image.Image:
    """The middle pixel's gradients."""
    from . import unpacked

    fields = []
    for name, found in data["networks"].items():
        gradient = unpacked(found["middle"], (SIDE, SIDE)).astype(np.float64) ** 2
        rows, columns = found["rows"][SIDE // 2], found["columns"][SIDE // 2]
        side = rows[1] - rows[0]
        fields.append(Field(name, gradient, rows, columns, f"{side} pixels"))
    return plot_fields(fields, columns=4, side=1.9, dpi=80)
