"""Runs a program that `segjax export --format=stablehlo` has written; JAX and NumPy suffice.

Nothing of segjax is imported, so this file can be copied to wherever a program is used:

    import loader

    program = loader.load("cells.stablehlo.zip")
    labels = program(image)  # `[H, W]`; the names are in program.about["classes"]

A program is an archive of a module in StableHLO, arrays, and text. It is data: the module can
compute arrays from arrays, and nothing else. Every member is compared with its digest, which
finds damage, not malice.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import math
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

ABOUT, MODULE, WEIGHTS = "program.json", "program.stablehlo", "weights.safetensors"
DIGESTS = "SHA256SUMS"
MEMBERS = ("README.md", DIGESTS, ABOUT, MODULE, WEIGHTS)
CALLS = ("shape_assertion",)
"""What a module may call that is not in it: checks of sizes."""
FORMAT, VERSION = "segjax program", 1

Names: TypeAlias = tuple[str, ...]
Arrays: TypeAlias = dict[str, np.ndarray]

_DTYPES = {
    **{"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64"},
    **{"U8": "uint8", "U16": "uint16", "U32": "uint32", "BOOL": "bool"},
    **{"I8": "int8", "I16": "int16", "I32": "int32", "I64": "int64"},
}
"""The types of a safetensors file."""


class ProgramError(ValueError):
    """A program that cannot be used, or an image that it does not take, in one sentence."""


def load(path: str | Path, *, batch_size: int = 1) -> Program:
    """Loads a program.

    Args:
      path: the archive.
      batch_size: tiles, or images of a stack, that are computed at a time.

    Returns:
      The program; it is compiled when it is called first.

    Raises:
      ProgramError: the archive cannot be read, was cut or changed, or was written by a JAX
        whose programs this one does not run.
    """
    path = Path(path)
    if batch_size < 1:
        raise ProgramError(f"batch_size must be at least 1, got {batch_size}.")
    try:
        members = _read(path)
        about = json.loads(members[ABOUT])
    except Exception as error:  # damaged archives make `zipfile` raise many kinds
        raise ProgramError(
            f"{path} is not a whole program ({_first_line(error)}): copy it again, or "
            "export it anew."
        ) from error
    _check_versions(about, path)
    try:
        weights = _arrays(members[WEIGHTS])
        ordered = [jnp.asarray(weights[name]) for name in about["weights"]]
        exported = _exported(about, members[MODULE], ordered)
        _ = [about[key] for key in ("kind", "outputs", "image")]
    except Exception as error:  # contradictions end in as many kinds
        raise ProgramError(
            f"{path} contradicts itself ({_first_line(error)}): export it anew."
        ) from error
    return Program(about, exported, ordered, batch_size)


class Program:
    """A network that labels the pixels of images as they are stored, or finds objects in them.

    Attributes:
      about: what `program.json` states: `classes`, their `colors`, `image` (type and channels),
        `kind`, `plan` and so on.
    """

    def __init__(
        self,
        about: Mapping[str, Any],
        exported: jax.export.Exported,
        weights: Sequence[jax.Array],
        batch_size: int,
    ) -> None:
        """Keeps what the calls need; `load` makes programs."""
        self.about = about
        self._weights = list(weights)
        self._batch_size = batch_size

        def call(names: Names, *arguments: Any) -> dict[str, jax.Array]:
            return {n: x for n, x in exported.call(*arguments).items() if n in names}

        self._run = jax.jit(call, static_argnums=0)

    def __call__(self, image: np.ndarray, output: Any = "labels") -> Any:
        """Computes outputs for an image, or a stack of images of one size.

        Args:
          image: as it is stored, `[H, W, C]`, or `[H, W]` for one channel; `[T, H, W, C]` is
            a stack.
          output: "labels", the classes, uint8; "logits" or "probabilities", float32. Where
            objects are found: "labels", the number of the object of each pixel, the best one
            being 1, int32; of each object "boxes" (y0, x0, y1, x1), "scores", "classes",
            "masks" (probabilities in the box), "keypoints", all 0 after the last object.
            Several names give a dict, for which the network runs once.

        Returns:
          `[H, W]` for labels, otherwise `[H, W, K]`, or `[D, ...]` of D objects; of a stack
          `[T, ...]`.

        Raises:
          ProgramError: an image of another size or type, or an unknown output.
        """
        names = (output,) if isinstance(output, str) else tuple(output)
        known = self.about["outputs"]
        if unknown := [name for name in names if name not in known]:
            raise ProgramError(
                f"output is {unknown[0]!r}; use one of {', '.join(known)}."
            )
        image = np.asarray(image)
        answer = self._tiled if self.about["kind"] == "tiles" else self._whole
        found = answer(self._stack(image), names)
        if image.ndim != 4:
            found = {name: values[0] for name, values in found.items()}
        return found[output] if isinstance(output, str) else found

    def _stack(self, image: np.ndarray) -> np.ndarray:
        """The images as `[T, H, W, C]`, once they are found to be what the program takes."""
        wanted = self.about["image"]
        if image.ndim == 2:
            image = image[..., None]
        stack = image if image.ndim == 4 else image[None]
        if stack.ndim != 4 or 0 in stack.shape or stack.shape[-1] != wanted["channels"]:
            raise ProgramError(
                f"The image is {list(image.shape)}, but this program takes [H, W, "
                f"{wanted['channels']}], or a stack of such."
            )
        if stack.dtype != wanted["dtype"]:
            raise ProgramError(
                f"The image is {stack.dtype}, but this program takes {wanted['dtype']}, as "
                "images are stored: convert it, or export with another --dtype."
            )
        if stack.dtype.kind == "f" and not np.isfinite(stack).all():
            raise ProgramError("The image has values that are NaN or infinite.")
        size = [wanted["height"], wanted["width"]]
        if self.about["kind"] == "image" and list(stack.shape[1:3]) != size:
            raise ProgramError(
                f"The image has {stack.shape[1]} x {stack.shape[2]} pixels, but this program "
                f"takes {size[0]} x {size[1]}: export one with "
                f"--image_size={stack.shape[1]},{stack.shape[2]}."
            )
        return stack

    def _whole(self, stack: np.ndarray, names: Names) -> Arrays:
        starts = range(0, len(stack), self._batch_size)
        parts = [self._batch(stack[i : i + self._batch_size], names) for i in starts]
        return {name: np.concatenate([part[name] for part in parts]) for name in names}

    def _tiled(self, stack: np.ndarray, names: Names) -> Arrays:
        """Cuts tiles, computes them in batches, and puts the part of each that counts."""
        plan, method = self.about["plan"], self.about["normalization"]
        rows = windows(plan, "height", stack.shape[1])
        columns = windows(plan, "width", stack.shape[2])
        given = [] if method["by"] == "program" else [_scale(method, x) for x in stack]
        tiles = list(itertools.product(range(len(stack)), rows, columns))
        found: Arrays = {}
        for first in range(0, len(tiles), self._batch_size):
            batch = tiles[first : first + self._batch_size]
            cut = [stack[i][np.ix_(r.source, c.source)] for i, r, c in batch]
            scale = [np.stack([given[i] for i, _, _ in batch])] if given else []
            for name, values in self._batch(np.stack(cut), names, *scale).items():
                if name not in found:
                    shape = (*stack.shape[:3], *values.shape[3:])
                    found[name] = np.zeros(shape, values.dtype)
                for (i, r, c), value in zip(batch, values, strict=True):
                    found[name][i, r.target, c.target] = value[r.trusted, c.trusted]
        return found

    def _batch(self, images: np.ndarray, names: Names, *scale: np.ndarray) -> Arrays:
        """Computes a batch, filled up so that one size is compiled."""
        count = len(images)
        fill = lambda x: np.concatenate(
            [x, np.repeat(x[-1:], self._batch_size - count, 0)]
        )
        try:
            found = self._run(names, self._weights, *map(fill, (images, *scale)))
        except (ValueError, jax.errors.JaxRuntimeError) as error:
            raise ProgramError(
                f"The program, written by JAX {self.about['jax']}, cannot be run by JAX "
                f"{jax.__version__} on this machine ({_first_line(error)})."
            ) from error
        return {name: np.asarray(values)[:count] for name, values in found.items()}


class Window(NamedTuple):
    """One tile along one axis.

    Attributes:
      source: the pixels of the image that it shows, mirrored at the borders.
      trusted: the part of its output that is used.
      target: where that goes in the image.
    """

    source: np.ndarray
    trusted: slice
    target: slice


def windows(plan: Mapping[str, Any], axis: str, side: int) -> list[Window]:
    """Lays tiles over one axis of an image, such that they give what the whole image gives.

    Args:
      plan: of `program.json`, pixels of one axis: `tile`, the side of a tile; `any_size`,
        whether smaller tiles are possible; `step`, from tile to tile; `stride`, by which tiles
        may be shifted; `margin`, what the network loses at each border; `halo`, what is wrong
        beside a cut; and the sides that it takes, from `minimum` on, with a `remainder` modulo
        the stride, null for that of the image.
      axis: "height" or "width", for the sentence.
      side: pixels of the image.

    Returns:
      The tiles from left to right; their targets fill the image.

    Raises:
      ProgramError: the tiles do not fit an image of this side.
    """
    stride, margin, halo = plan["stride"], plan["margin"], plan["halo"]
    remainder, tile = plan["remainder"], plan["tile"]
    canvas = max(side + 2 * margin, plan["minimum"])
    if remainder is not None:
        canvas += (remainder - canvas) % stride
    if plan["any_size"]:
        tile = min(tile + (canvas - tile) % stride, canvas)
    elif canvas % stride != tile % stride:
        raise ProgramError(
            f"The {axis} of the image is {side}, but this program takes {tile % stride} more "
            f"than a multiple of {stride}: export one with --image_size."
        )
    if canvas < tile and halo:
        raise ProgramError(
            f"The {axis} of the image is {side}, less than a tile of this program, {tile}: "
            "export one with smaller tiles (--tile), or with --image_size."
        )
    canvas, step = max(canvas, tile), plan["step"]
    starts = [*range(0, canvas - tile, step), canvas - tile]
    found, done = [], 0
    for start in starts:
        cut = halo if start + tile < canvas else 0
        end = min(start + tile - 2 * margin - cut, side)
        source = _mirrored(np.arange(start, start + tile) - margin, side)
        found.append(Window(source, slice(done - start, end - start), slice(done, end)))
        done = end
    return found


def _mirrored(position: np.ndarray, side: int) -> np.ndarray:
    """Positions beyond the borders, mirrored into the image; the border is not repeated."""
    if side == 1:
        return np.zeros_like(position)
    position = np.abs(position) % (2 * side - 2)
    return np.minimum(position, 2 * side - 2 - position)


def _scale(method: Mapping[str, Any], image: np.ndarray) -> np.ndarray:
    """What an image is divided by, loses, and is divided by, `[3, C]`."""
    channels = image.shape[-1]
    if method["by"] == "mean and standard deviation":
        mean = image.mean(dtype=np.float64)
        rows = (1.0, mean, image.std(dtype=np.float64) or 1.0)
    else:
        height, width = image.shape[:2]
        step = max(1, math.ceil(math.sqrt(height * width / method["sampled_pixels"])))
        pixels = image[::step, ::step].reshape(-1, channels)
        low, high = np.percentile(pixels, (method["low"], method["high"]), axis=0)
        spread = high - low
        if method["least_spread"] is not None:
            spread = np.maximum(spread, method["least_spread"])
        rows = (1.0, low, np.where(spread > 0, spread, 1.0))
    return np.stack([np.broadcast_to(np.float32(row), channels) for row in rows])


def _exported(
    about: Mapping[str, Any], module: bytes, weights: Sequence[jax.Array]
) -> jax.export.Exported:
    """What JAX calls, around a module in StableHLO.

    A function of the same arguments and results is exported, and its module replaced.
    """
    image = about["image"]
    size = f"{image['height']}, {image['width']}"
    shape = jax.export.symbolic_shape(f"batch, {size}, {image['channels']}")
    lost = 2 * about["plan"]["margin"] if "plan" in about else 0
    pixels = (shape[1] - lost, shape[2] - lost)

    def blank(weights: Any, images: jax.Array, *scale: jax.Array) -> dict[str, Any]:
        return {
            name: jnp.zeros((shape[0], *_each(kind, pixels)), kind["dtype"])
            for name, kind in about["outputs"].items()
        }

    arguments = [jax.ShapeDtypeStruct(shape, image["dtype"])]
    if about["normalization"]["by"] != "program":
        scales = (shape[0], 3, image["channels"])
        arguments.append(jax.ShapeDtypeStruct(scales, jnp.float32))
    export = jax.export.export(
        jax.jit(blank, keep_unused=True), platforms=about["platforms"]
    )
    exported = dataclasses.replace(
        export(list(weights), *arguments),
        mlir_module_serialized=module,
        calling_convention_version=about["calling_convention"],
    )
    calls = set(re.findall(r"custom_call\s*@\"?([^\s\"(]+)", exported.mlir_module()))
    if outside := sorted(calls.difference(CALLS)):
        raise ValueError(f"its program calls {', '.join(outside)}, which is not in it")
    return exported


def _each(kind: Mapping[str, Any], pixels: Sequence[Any]) -> Sequence[Any]:
    """The shape of an output for one image."""
    return kind["shape"] if "shape" in kind else (*pixels, *kind["channels"])


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".:")


def _check_versions(about: Any, path: Path) -> None:
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise ProgramError(f"{path} is not a program that segjax exported.")
    if about.get("version") != VERSION:
        raise ProgramError(
            f"{path} is a program of version {about.get('version')}, and this loader reads "
            f"version {VERSION}: use the one that comes with the segjax that wrote it."
        )
    oldest = jax.export.minimum_supported_calling_convention_version
    newest = jax.export.maximum_supported_calling_convention_version
    version = about.get("calling_convention")
    if not isinstance(version, int) or not oldest <= version <= newest:
        raise ProgramError(
            f"{path} was written by JAX {about.get('jax')}, whose programs this JAX, "
            f"{jax.__version__}, does not run: export it anew, or use that JAX."
        )


def _read(path: Path) -> dict[str, bytes]:
    """Reads the members, and compares them with the digests."""
    with zipfile.ZipFile(path) as archive:
        listing = archive.infolist()
        if sorted(member.filename for member in listing) != sorted(MEMBERS):
            raise ValueError(f"it does not hold {', '.join(MEMBERS)} alone")
        for member in listing:  # so that nothing can grow
            if member.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"its {member.filename} is compressed")
        if sum(member.file_size for member in listing) > path.stat().st_size:
            raise ValueError("its members say that they are larger than it is")
        members = {name: archive.read(name) for name in MEMBERS}
    lines = members.pop(DIGESTS).decode().splitlines()
    listed = {name: digest for digest, name in (x.split("  ", 1) for x in lines)}
    for name, content in members.items():
        if listed.get(name) != hashlib.sha256(content).hexdigest():
            raise ValueError(f"its {name} is not the one that {DIGESTS} lists")
    return members


def _arrays(raw: bytes) -> dict[str, np.ndarray]:
    """Reads a safetensors file: the length of a list of arrays, the list, the arrays."""
    start = 8 + int.from_bytes(raw[:8], "little")
    found = {}
    for name, entry in json.loads(raw[8:start]).items():
        if name == "__metadata__":
            continue
        first, last = entry["data_offsets"]
        values = raw[start + first : start + last]
        dtype = jnp.dtype(_DTYPES[entry["dtype"]])
        found[name] = np.frombuffer(values, dtype).reshape(entry["shape"])
    return found
