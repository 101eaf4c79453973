"""Exporting a trained network as ONNX, for runtimes that know nothing of JAX."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from segjax.export.functions import PixelFunction, open_functions
from segjax.export.onnx.precision import Precision, with_precision
from segjax.export.onnx.write import (
    SUFFIX,
    convert_first,
    require_onnx,
    write_onnx,
)
from segjax.runs.exports.found import Exported, find_exported

_USE = (
    "    import onnxruntime",
    '    session = onnxruntime.InferenceSession("MODEL.onnx")',
    '    (labels,) = session.run(["labels"], {"image": images})  # [B, H, W, C], as stored',
)


def export_onnx(
    run: str | Path,
    output: str | Path,
    *,
    image_size: tuple[int, int] | None = None,
    precision: Precision | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Writes what a trained network answers as one graph of ONNX.

    It takes images `[B, H, W, C]` as they are stored, and gives labels, logits and
    probabilities as `predict` does; of a network that finds objects what
    `segjax.export.objects` says.

    Args:
      run: the folder of the run, a model file, or the name of a model that comes with segjax.
      output: the file, ending in .onnx.
      image_size: height and width of the images; None: all sizes that the network takes,
        where it can be traced for them.
      precision: how weights are stored, one of `PRECISIONS`; None is float32.
      **options: those of `segjax.runs.exports.found.find_exported`: `best`, `step`, `dtype`,
        `crf`, `description`, `overwrite`, `allow_code`.

    Returns:
      `file`, `bytes` and `sha256` of it, `step`, `kind`, `image` and `opset`.

    Raises:
      UserError: for anything that the user can put right; nothing was written then.
    """
    require_onnx("onnx")
    found = find_exported(
        *(run, output, SUFFIX),
        format_name="onnx",
        image_size=image_size,
        objects=True,
        **options,
    )
    pixels, model = converted(found, image_size)
    model = with_precision(model, precision or "float32")
    found.outputs.make_folder()
    with found.outputs.file(found.path.name) as written:
        write_onnx(written, model, pixels, found.about, found.card(_USE))
    return found.written(pixels) | {"opset": model.opset_import[0].version}


def converted(
    found: Exported,
    image_size: tuple[int, int] | None,
    outputs: Sequence[str] | None = None,
) -> tuple[PixelFunction, Any]:
    """Converts a network.

    Args:
      found: the network.
      image_size: height and width of its images; None: all that it takes.
      outputs: that are wanted; None: all.

    Returns:
      What was converted, and its `onnx.ModelProto`.

    Raises:
      UserError: it cannot be written as ONNX, or not for images of all sizes.
    """
    functions = found.functions(image_size, open_functions)
    return convert_first(functions, found.trained.channels, found.dtype, outputs)
