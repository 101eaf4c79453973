"""Networks as ONNX files: what stands around the graph, and how it is made.

Source: the specification of ONNX, github.com/onnx/onnx, `docs/IR.md`.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from typing import IO, Any

import jax
import numpy as np

import segjax
from segjax.errors import UserError
from segjax.export.functions import PixelFunction
from segjax.export.stablehlo import without_source_files
from segjax.ops.base.forms import forms, lowering_for

SUFFIX = ".onnx"
LARGEST = (1 << 31) - 1
"""Bytes of a file, which Protocol Buffers allow."""


def require_onnx(format_name: str) -> None:
    """Refuses to go on without the package `onnx`.

    Args:
      format_name: that of the flag --format, which needs it.

    Raises:
      UserError: it is missing.
    """
    try:
        import onnx
    except ImportError as error:
        raise UserError(
            f"--format={format_name} needs the package onnx, which cannot be imported ({error}): "
            "pip install 'segjax[onnx]'."
        ) from error
    del onnx


def convert_first(
    functions: Sequence[PixelFunction],
    channels: int,
    dtype: np.dtype,
    outputs: Sequence[str] | None = None,
) -> tuple[PixelFunction, Any]:
    """Converts the first of several functions that can be converted; see `convert`.

    Args:
      functions: the best one first.
      channels: of their images.
      dtype: of their images.
      outputs: see `convert`.

    Returns:
      The function, and its `onnx.ModelProto`.

    Raises:
      UserError: why the last cannot be converted.
    """
    *others, last = functions
    for function in others:
        with contextlib.suppress(UserError):
            return function, convert(function, channels, dtype, outputs)
    return last, convert(last, channels, dtype, outputs)


def convert(
    pixels: PixelFunction,
    channels: int,
    dtype: np.dtype,
    outputs: Sequence[str] | None = None,
) -> Any:
    """Converts a function, for any number of images at a time.

    Args:
      pixels: the function.
      channels: of its images.
      dtype: of its images.
      outputs: names of those that are wanted; None: all, in the order of the alphabet.

    Returns:
      An `onnx.ModelProto`: from "image" `[B, H, W, C]` to the outputs.

    Raises:
      UserError: if the function cannot be traced for images of this size or of all sizes, or a
        primitive has no like in ONNX.
    """
    from segjax.export.onnx.convert import to_model

    weights, images = pixels.arguments(channels, dtype)

    def call(*given: Any) -> dict[str, Any]:
        found = pixels.of_list(*given)
        return {name: found[name] for name in outputs or found}

    with forms("stock"), lowering_for("cpu"), without_source_files():
        try:
            traced = jax.jit(call, keep_unused=True).trace(weights, *images)
        except UserError:
            raise
        except Exception as error:  # of the network's own code, too
            raise UserError(_untraceable(pixels, error)) from error
        arrays = jax.device_get(list(pixels.weights.values()))
        shape = tuple(images[0].shape)
        names = sorted(traced.out_info)  # as JAX has the results of a dict
        return to_model(traced.jaxpr, arrays, (shape, dtype), names)


def _untraceable(pixels: PixelFunction, error: Exception) -> str:
    """Says why a function cannot be traced."""
    reason = str(error).strip().partition("\n")[0].rstrip(".:")[:200]
    if all(isinstance(size, int) for size in pixels.image_size):
        return (
            "The network cannot be written as ONNX, as it cannot be traced for any number of "
            f"images ({reason}): replace that, or export it with --format=segjax."
        )
    return (
        "The network cannot be written as ONNX for images of any size, as its code asks how "
        f"large they are ({reason}): give --image_size=HEIGHT,WIDTH."
    )


def write_onnx(
    file: IO[bytes],
    model: Any,
    pixels: PixelFunction,
    about: Mapping[str, Any],
    card: str,
) -> None:
    """Writes a model, with what is known of it as its metadata.

    Args:
      file: to be written, from its beginning.
      model: an `onnx.ModelProto`.
      pixels: what was converted.
      about: JSON on classes and the like, by key.
      card: Markdown for people, the `doc_string` of the model.

    Raises:
      UserError: the model is larger than a file of ONNX can be.
    """
    describe(model, pixels, about, card)
    if model.ByteSize() > LARGEST:
        raise UserError(
            f"The model has {model.ByteSize() / 1e9:.1f} GB, and one file of ONNX has 2 GB at "
            "most: export it with --precision=float16, or with --format=stablehlo."
        )
    file.write(model.SerializeToString(deterministic=True))


def describe(
    model: Any, pixels: PixelFunction, about: Mapping[str, Any], card: str
) -> None:
    """Sets producer, description and metadata of a model; see `write_onnx`."""
    model.producer_name, model.producer_version = "segjax", segjax.__version__
    model.doc_string = card
    stated = {**pixels.about, **about, "segjax": segjax.__version__}
    del model.metadata_props[:]
    for key, value in sorted(stated.items()):
        text = value if isinstance(value, str) else json.dumps(value)
        model.metadata_props.add(key=key, value=text)
