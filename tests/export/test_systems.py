"""Every system of the models table as a program, in a process without segjax."""

from __future__ import annotations

import dataclasses
import runpy
import zlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.data.normalization import normalize
from segjax.export.functions import PixelNetwork, image_function, tile_functions
from segjax.export.stablehlo import lower_first, write_stablehlo
from segjax.geometry.tiles import tile_input_side
from segjax.predict.heads import SOFTMAX
from segjax.predict.test_time import TestTimeAugmentation
from segjax.predict.tiled import Predictor

HERE = Path(__file__).resolve().parent
SYSTEMS = runpy.run_path(str(HERE.parent / "models" / "test_contract.py"))["EACH"]
"""A small network of every model, and of each of its forms."""

TOLERANCE = 1e-5
STORED = np.dtype(np.uint8)


def variables_of(case: Any, seed: int) -> Any:
    """Random variables with which logits neither vanish nor grow; nothing is compiled."""
    image = jnp.zeros((1, case.side, case.side, 1))
    shapes = jax.eval_shape(
        lambda: case.small.init(jax.random.key(0), image, train=False)
    )
    rng = np.random.default_rng(seed)

    def values(x: jax.ShapeDtypeStruct) -> np.ndarray:
        if len(x.shape) < 2:  # scales, biases, means, variances
            return rng.uniform(0.5, 1.5, x.shape).astype(x.dtype)
        spread = np.sqrt(2 / np.prod(x.shape[:-1]))
        return rng.normal(0, spread, x.shape).astype(x.dtype)

    return jax.tree.map(values, shapes)


@pytest.mark.quick(4)
@pytest.mark.parametrize("case", SYSTEMS)
def test_every_system_answers_the_same_without_segjax(
    case: Any, ask: Any, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    model, geometry = case.small, case.small.geometry
    name = request.node.callspec.id
    if geometry.tiles:
        tile = 2 * geometry.stride
        accepted = dataclasses.replace(geometry, offset=geometry.offset or 0)
        side = tile_input_side(accepted, tile) - 2 * geometry.margin
        height, width = side + geometry.stride, side  # two tiles, and one
    else:
        height, width = case.side, case.side + 3
    image = np.random.default_rng(0).integers(0, 256, (height, width, 1), np.uint8)

    def apply(variables: Any, x: jax.Array) -> jax.Array:
        logits = model.apply(variables["network"], x, train=False)["logits"]
        return logits - variables["shift"]

    variables = {
        "network": variables_of(case, zlib.crc32(name.encode())),
        "shift": np.zeros((1, 1, 1, 2), np.float32),
    }
    predictor = Predictor(jax.tree_util.Partial(apply, variables), geometry)
    logits = predictor.logits(normalize(image, "range"))
    allowed = TOLERANCE * np.abs(logits).max()
    second = logits[..., 1] - logits[..., 0]
    assert np.ptp(second) > 1000 * allowed  # what is compared depends on the image
    variables["shift"][..., 1] = (second.min() + second.max()) / 2
    logits = logits - variables["shift"][0]  # so that there are both classes

    network = PixelNetwork(
        *(apply, variables, 1, geometry, SOFTMAX, "range", TestTimeAugmentation()),
        name=name,
    )
    functions = (
        tile_functions(network, tile, STORED)
        if geometry.tiles
        else [image_function(network, (height, width), STORED)]
    )
    pixels, lowered = lower_first(functions, 1, STORED)
    path = tmp_path / "system.stablehlo.zip"
    with path.open("wb") as file:
        write_stablehlo(file, pixels, lowered, {}, "# A card\n")
    found = ask(path, image)
    np.testing.assert_array_equal(found["labels"], logits.argmax(-1))
    assert set(np.unique(found["labels"])) == {0, 1}
    np.testing.assert_allclose(found["logits"], logits, rtol=0, atol=allowed)
