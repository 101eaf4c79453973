"""What a network answers for images as they are stored, as pure functions of arrays.

There are two: of a tile, out of which answers for images of any size are put together, and of
a whole image of a fixed size. Both are what `segjax predict` computes: the normalisation, the
network with all that is averaged, the refinement, labels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from segjax.data.normalization import ImageNormalization
from segjax.errors import UserError
from segjax.export.normalization import ProgramNormalization, program_normalization
from segjax.geometry.input_sizes import Geometry
from segjax.geometry.tiles import plan, tile_input_side
from segjax.ops.resizing.resize import resize_bilinear
from segjax.predict.heads import OUTPUTS, Head
from segjax.predict.test_time import AveragedPredictor, TestTimeAugmentation
from segjax.types import Array

SCALE = "normalization"
"""The name of the array that images are normalised by, among the weights."""

LEAST_TILE = 256
"""Output side of a tile in pixels, where nobody asks for another one."""

_GIVE_SIZE = "give --image_size=HEIGHT,WIDTH"

Size = tuple[int | str, int | str]
Function = Callable[..., dict[str, Array]]
"""Of weights by name, images `[B, H, W, C]` as stored, and more, to outputs by name."""


@dataclasses.dataclass(frozen=True)
class PixelNetwork:
    """A trained network that labels pixels, with all that `predict` does around it.

    Attributes:
      apply: maps variables and normalised images `[B, H, W, C]` to logits `[B, H', W', K]`.
      variables: its collections.
      channels: of the images, C.
      geometry: the sizes that it takes.
      head: how its logits are read.
      normalization: of the images.
      passes: what is averaged for each image.
      temperature: by which logits are divided.
      downscale: factor by which images are made smaller for it.
      refine: maps an image `[H, W, C]` as stored and its logits `[H, W, K]` to better logits;
        None leaves them.
      name: of the network, for messages.
    """

    apply: Callable[[Any, Array], Array]
    variables: Mapping[str, Any]
    channels: int
    geometry: Geometry
    head: Head
    normalization: ImageNormalization
    passes: TestTimeAugmentation
    temperature: float = 1.0
    downscale: int = 1
    refine: Callable[..., Array] | None = None
    name: str = ""

    def outputs(self, logits: Array) -> dict[str, Array]:
        """Labels, logits and probabilities; those of a temperature, as `predict` has them."""
        labels = self.head.outputs(logits, ("labels",))
        names = [name for name in OUTPUTS if name != "labels"]
        return labels | self.head.outputs(logits / self.temperature, names)


@dataclasses.dataclass(frozen=True)
class PixelFunction:
    """A function, what it is given, and what a loader has to know of it.

    Attributes:
      function: see `Function`; the first argument are the arrays in their order.
      weights: arrays by name.
      image_size: height and width of its images, pixels, or expressions of `jax.export` such
        as "16*height" where they are open.
      takes_scale: whether a scale `[B, 3, C]` is an argument, after the images.
      about: what `program.json` states of kind, plan and normalisation.
      constraints: on the symbols of open sizes, such as "height >= 2".
    """

    function: Function
    weights: dict[str, np.ndarray | Array]
    image_size: Size
    takes_scale: bool
    about: dict[str, Any]
    constraints: tuple[str, ...] = ()

    def of_list(self, weights: Sequence[Any], *images: Array) -> dict[str, Array]:
        """The function of the arrays in their order, and of images."""
        return self.function(dict(zip(self.weights, weights, strict=True)), *images)

    def arguments(
        self, channels: int, dtype: np.dtype
    ) -> tuple[list[jax.ShapeDtypeStruct], list[jax.ShapeDtypeStruct]]:
        """What `of_list` is traced with: the arrays, and any number of images."""
        height, width = self.image_size
        shape = jax.export.symbolic_shape(
            f"batch, {height}, {width}, {channels}", constraints=self.constraints
        )
        given = self.weights.values()
        weights = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in given]
        images = [jax.ShapeDtypeStruct(shape, dtype)]
        if self.takes_scale:
            scale = (shape[0], 3, channels)
            images.append(jax.ShapeDtypeStruct(scale, jnp.float32))
        return weights, images


def tile_functions(
    network: PixelNetwork, tile: int | None, dtype: np.dtype
) -> list[PixelFunction]:
    """The functions of a tile, the better one first.

    Of a padded network an image that is smaller than the tile needs a smaller tile, as the
    place of the zeros matters. So the first function leaves the size of tiles open, if the
    network is padded; not every network can be lowered like that. The last has tiles of one
    size.

    Args:
      network: the network.
      tile: output side of a tile in pixels, rounded up to what is possible; None chooses one.
      dtype: of the images.

    Returns:
      The functions. Where each image is normalised by its own pixels, the scale of the image
      is an argument, as a tile does not see them.

    Raises:
      UserError: if tiles would change the result.
    """
    if why := _needs_whole_images(network):
        raise UserError(f"{why}, so a program is for images of one size: {_GIVE_SIZE}.")
    geometry, offset = network.geometry, network.geometry.offset
    if offset is None:  # tiles of one size then fit images of multiples of the stride
        geometry = dataclasses.replace(geometry, offset=0)
    side = tile_input_side(
        geometry, max(LEAST_TILE, _lost(geometry)) if tile is None else tile
    )
    normalize = program_normalization(network.normalization, network.channels, dtype)
    weights, variables_of = _weights(network, normalize)

    def function(
        weights: Mapping[str, Array], images: Array, *scales: Array
    ) -> dict[str, Array]:
        (scale,) = scales or (weights[SCALE][None],)
        variables, image = variables_of(weights), normalize(images, scale)
        return network.outputs(network.apply(variables, image))

    def tiles(image_size: Size, *, any_size: bool) -> PixelFunction:
        about = {
            "kind": "tiles",
            "plan": _plan(geometry, side) | {"remainder": offset, "any_size": any_size},
            "normalization": normalize.describe(),
        }
        takes_scale = normalize.scale is None
        return PixelFunction(function, weights, image_size, takes_scale, about)

    fixed = tiles((side, side), any_size=False)
    if not geometry.halo:
        return [fixed]
    stride = 1 if offset is None else geometry.stride
    return [tiles(_open_size(stride, offset or 0), any_size=True), fixed]


def _open_size(stride: int, remainder: int) -> Size:
    """Height and width of images of any size that leaves a remainder, as expressions."""
    factor, rest = f"{stride}*" * (stride > 1), f" + {remainder}" * bool(remainder)
    return f"{factor}height{rest}", f"{factor}width{rest}"


def open_functions(network: PixelNetwork, dtype: np.dtype) -> list[PixelFunction]:
    """The functions of whole images of all sizes that the network takes, the better one first.

    Args:
      network: the network.
      dtype: of the images.

    Returns:
      The functions. Where a network takes every size, there is one for all sizes, and one for
      multiples of its stride, as not every network can be traced for all.

    Raises:
      UserError: if something around the network is for images of one size.
    """
    if why := _needs_one_size(network):
        raise UserError(f"{why}, for which the size must be known: {_GIVE_SIZE}.")
    geometry = network.geometry
    normalize = program_normalization(network.normalization, network.channels, dtype)
    weights, variables_of = _weights(network, normalize)

    def function(weights: Mapping[str, Array], images: Array) -> dict[str, Array]:
        scales = (
            weights[SCALE][None] if SCALE in weights else normalize.scales_of(images)
        )
        variables, image = variables_of(weights), normalize(images, scales)
        return network.outputs(network.apply(variables, image))

    def images(stride: int, remainder: int) -> PixelFunction:
        least = -(-(geometry.minimum - remainder) // stride)
        sizes = {
            "stride": stride,
            "remainder": remainder,
            "minimum": least * stride + remainder,
            "margin": geometry.margin,
        }
        about = {"kind": "images", "sizes": sizes, "normalization": {"by": "program"}}
        at_least = tuple(f"{axis} >= {max(least, 1)}" for axis in ("height", "width"))
        size = _open_size(stride, remainder)
        return PixelFunction(function, weights, size, False, about, at_least)

    if geometry.offset is None:
        return [images(1, 0), images(geometry.stride, 0)]
    return [images(geometry.stride, geometry.offset)]


def _lost(geometry: Geometry) -> int:
    """Pixels of a tile that are not of its own answer, along one axis."""
    return 2 * (geometry.margin + (geometry.halo or 0))


def _plan(geometry: Geometry, side: int) -> dict[str, Any]:
    """What a loader has to know to lay tiles of a side; see `segjax.export.loader.windows`."""
    stride = geometry.stride
    return {
        "tile": side,
        "step": (side - _lost(geometry)) // stride * stride,
        "stride": stride,
        "margin": geometry.margin,
        "halo": geometry.halo,
        "minimum": geometry.minimum,
    }


def image_function(
    network: PixelNetwork, size: tuple[int, int], dtype: np.dtype
) -> PixelFunction:
    """The function of whole images of one size.

    Args:
      network: the network.
      size: height and width of the images.
      dtype: of the images.

    Returns:
      The function.
    """
    normalize = program_normalization(network.normalization, network.channels, dtype)
    weights, variables_of = _weights(network, normalize)

    def function(weights: Mapping[str, Array], images: Array) -> dict[str, Array]:
        variables = variables_of(weights)
        small = _downscaled(images, network.downscale)
        scales = (
            weights[SCALE][None] if SCALE in weights else normalize.scales_of(small)
        )
        image = normalize(small, scales)
        logits = _whole(network, variables, image)
        if network.refine is None and network.downscale == 1:
            return network.outputs(logits)
        logits = logits / network.temperature
        if network.refine is not None:
            logits = jax.lax.map(lambda pair: network.refine(*pair), (small, logits))
        if network.downscale > 1:
            rows, columns = (side * network.downscale for side in logits.shape[1:3])
            logits = resize_bilinear(logits, size=(rows, columns))
            logits = logits[:, : size[0], : size[1]]
        return network.head.outputs(logits, OUTPUTS)

    about = {"kind": "image", "normalization": {"by": "program"}}
    return PixelFunction(function, weights, size, False, about)


def _needs_whole_images(network: PixelNetwork) -> str:
    """Says why tiles would change the result; empty where they would not."""
    if not network.geometry.tiles:
        return f'Each output pixel of "{network.name}" sees the whole image'
    return _needs_one_size(network)


def _needs_one_size(network: PixelNetwork) -> str:
    """Says what is around a network that is for images of one size; empty for nothing."""
    if not network.passes.is_one:
        return "config.evaluation averages several passes over each image"
    if network.downscale > 1:
        return f"Images are made smaller by {network.downscale} for this network"
    if network.refine is not None:
        return "The CRF relates all pixels of an image"
    return ""


def named_arrays(
    variables: Mapping[str, Any],
) -> tuple[dict[str, Any], Callable[[Mapping[str, Array]], Any]]:
    """The arrays of collections by name, and the way back to the collections.

    Example:
      >>> arrays, back = named_arrays({"params": {"conv": {"bias": 1}}})
      >>> arrays, back(arrays)
      ({'params/conv/bias': 1}, {'params': {'conv': {'bias': 1}}})
    """
    leaves, tree = jax.tree_util.tree_flatten_with_path(variables)
    arrays = {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in leaves
    }
    names = list(arrays)
    return arrays, lambda given: jax.tree.unflatten(tree, [given[x] for x in names])


def _weights(
    network: PixelNetwork, normalization: ProgramNormalization
) -> tuple[dict[str, Any], Callable[[Mapping[str, Array]], Any]]:
    """The arrays of a program by name, and the way back to the collections among them."""
    arrays, variables_of = named_arrays(network.variables)
    if normalization.scale is not None:
        arrays[SCALE] = normalization.scale
    return arrays, variables_of


def _whole(network: PixelNetwork, variables: Any, image: Array) -> Array:
    """The logits of whole images, of the size of the images."""
    apply = jax.tree_util.Partial(network.apply, variables)
    if not network.passes.is_one:
        averaged = AveragedPredictor(
            apply, network.geometry, network.passes, head=network.head
        )
        found = jax.lax.map(averaged.mean, image)
        return network.head.logits(found)
    height, width = image.shape[1:3]
    down, across = (plan(network.geometry, side, 0) for side in (height, width))
    rows, columns = down.source(down.windows[0]), across.source(across.windows[0])
    if len(rows) > height or len(columns) > width:
        image = image[:, rows][:, :, columns]
    return apply(image)[:, :height, :width]


def _downscaled(images: Array, factor: int) -> Array:
    """Averages blocks of pixels as `segjax.data.downscale` does; the type stays."""
    if factor == 1:
        return images
    rest = [(0, -side % factor) for side in images.shape[1:3]]
    images = jnp.pad(images, ((0, 0), *rest, (0, 0)), mode="edge")
    count, height, width, channels = images.shape
    blocks = (count, height // factor, factor, width // factor, factor, channels)
    images = images.reshape(blocks)
    if jnp.issubdtype(images.dtype, jnp.floating):
        return images.mean((2, 4)).astype(images.dtype)
    area = factor * factor
    total = images.astype(jnp.int32).sum((2, 4))
    return ((total + area // 2) // area).astype(images.dtype)
