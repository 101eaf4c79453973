"""Packages of bioimage.io: a graph of ONNX, its description, and what it answers for an image.

Source: the description of models, format 0.5, github.com/bioimage-io/spec-bioimage-io.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from typing import IO, Any

import numpy as np

import segjax
from segjax.export.functions import PixelFunction

SUFFIX = ".bioimageio.zip"
FORMAT_VERSION = "0.5.3"
OUTPUT = "probabilities"
"""The one output: tools read maps of all classes, of which labels are the largest."""

DESCRIPTION, CARD, COVER, WEIGHTS = "rdf.yaml", "README.md", "cover.png", "weights.onnx"
TEST_INPUT, TEST_OUTPUT = "test_input.npy", "test_output.npy"
_DATE = (1980, 1, 1, 0, 0, 0)
"""Of every member, so that the same model is the same file."""


def npy(array: np.ndarray) -> bytes:
    """An array as the bytes of a file of NumPy."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


@dataclasses.dataclass(frozen=True)
class Package:
    """What a package states of its model.

    Attributes:
      name: of the model.
      description: one sentence on what it finds.
      classes: names of the channels of the output.
      channels: of the images.
      dtype: of the images.
      authors: their names.
      license: of the weights, by SPDX (spdx.org/licenses), such as "CC-BY-4.0"; or none.
    """

    name: str
    description: str
    classes: Sequence[str]
    channels: int
    dtype: np.dtype
    authors: Sequence[str] = ()
    license: str | None = None

    def describe(
        self, pixels: PixelFunction, files: Mapping[str, bytes], opset: int
    ) -> dict[str, Any]:
        """The description of a package, as `rdf.yaml` has it.

        Args:
          pixels: the function that was converted, for its sizes.
          files: contents of the members that are described, by name.
          opset: of the graph.

        Returns:
          The description, JSON.
        """
        file = lambda member: {
            "source": member,
            "sha256": hashlib.sha256(files[member]).hexdigest(),
        }
        given = [f"channel{i}" for i in range(self.channels)]
        image = {
            "id": "image",
            "description": "the image as it is stored",
            "axes": _axes([_size(pixels, axis) for axis in (0, 1)], given),
            "test_tensor": file(TEST_INPUT),
            "data": {"type": str(self.dtype)},
        }
        answer = {
            "id": OUTPUT,
            "description": "probabilities of the classes",
            "axes": _axes([_answered(pixels, x) for x in (0, 1)], self.classes),
            "test_tensor": file(TEST_OUTPUT),
            "data": {"type": "float32"},
        }
        stated = {
            "type": "model",
            "format_version": FORMAT_VERSION,
            "name": title(self.name),
            "description": self.description,
            "authors": [{"name": author} for author in self.authors],
            "documentation": CARD,
            "covers": [COVER],
            "tags": ["segmentation", "semantic-segmentation", "segjax"],
            "inputs": [image],
            "outputs": [answer],
            "weights": {"onnx": file(WEIGHTS) | {"opset_version": opset}},
            "config": {"segjax": {"version": segjax.__version__}},
        }
        return stated | ({"license": self.license} if self.license else {})


def title(name: str) -> str:
    """A name as the format allows it.

    Example:
      >>> title("cells/2"), title("em")
      ('cells 2', 'em of segjax')
    """
    allowed = lambda x: x.isascii() and (x.isalnum() or x in "_+- ()")
    kept = "".join(x if allowed(x) else " " for x in name).strip()
    return (kept if len(kept) >= 5 else f"{kept} of segjax".strip())[:64]


def _axes(sizes: Sequence[Any], channels: Sequence[str]) -> list[dict[str, Any]]:
    """Batch, rows, columns and channels."""
    height, width = sizes
    return [
        {"type": "batch"},
        {"type": "space", "id": "y", "size": height},
        {"type": "space", "id": "x", "size": width},
        {"type": "channel", "channel_names": [identifier(x) for x in channels]},
    ]


def identifier(name: str) -> str:
    """A name as identifiers of the format are: small letters, digits and underscores.

    Example:
      >>> identifier("Road marking")
      'road_marking'
    """
    kept = "".join(x if x.isascii() and x.isalnum() else "_" for x in name.lower())
    return kept if kept[:1].isalpha() else f"class_{kept}"


def _size(pixels: PixelFunction, axis: int) -> Any:
    """Which sizes an axis of the image has."""
    size = pixels.image_size[axis]
    if isinstance(size, int):
        return size
    sizes = pixels.about["sizes"]
    return {"min": sizes["minimum"], "step": sizes["stride"]}


def _answered(pixels: PixelFunction, axis: int) -> Any:
    """Which sizes that axis of the answer has."""
    if isinstance(size := pixels.image_size[axis], int):
        return size
    lost = 2 * pixels.about["sizes"]["margin"]
    return {"tensor_id": "image", "axis_id": "yx"[axis], "offset": -lost}


def cover(image: np.ndarray, labels: np.ndarray, colors: Sequence[Any]) -> np.ndarray:
    """A picture of an image above the diagonal, and of its labels below.

    Args:
      image: `[H, W, C]`, as stored.
      labels: `[H, W]`.
      colors: of the classes, 0 to 255.

    Returns:
      `[H, W, 3]` uint8.
    """
    grey = image[..., :3] if image.shape[-1] >= 3 else image[..., :1]
    low, high = float(grey.min()), float(grey.max())
    scaled = (grey.astype(np.float32) - low) * (255 / max(high - low, 1e-6))
    picture = np.broadcast_to(scaled, (*labels.shape, 3)).astype(np.uint8)
    painted = np.asarray(colors, np.uint8)[labels]
    rows, columns = np.indices(labels.shape)
    height, width = labels.shape
    is_below = rows * width > columns * height
    return np.where(is_below[..., None], painted, picture)


def write_package(
    file: IO[bytes], description: Any, files: Mapping[str, bytes]
) -> None:
    """Writes a package.

    Args:
      file: to be written, from its beginning.
      description: see `describe`.
      files: the other members by name.
    """
    # JSON is YAML, with which no name can be mistaken for a number or a date.
    text = json.dumps(description, indent=2, ensure_ascii=False) + "\n"
    members = {DESCRIPTION: text.encode(), **files}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name, _DATE), content)
