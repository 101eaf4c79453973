"""Programs as StableHLO: one archive of a module, arrays and text, for CPUs, GPUs and TPUs.

The module is a portable artefact of StableHLO (github.com/openxla/stablehlo), which
`jax.export` makes; its arguments are the arrays, in the order of `program.json`, and the
images. `segjax.export.loader` reads the archive.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

import jax
import jax.export
import numpy as np

import segjax
from segjax.errors import UserError
from segjax.export.functions import PixelFunction
from segjax.export.loader import ABOUT, FORMAT, MODULE, VERSION, WEIGHTS
from segjax.ops.base.forms import forms, lowering_for
from segjax.predict.heads import OUTPUTS
from segjax.pretrained import archive
from segjax.pretrained.files import to_safetensors

SUFFIX = ".stablehlo.zip"
PLATFORMS = ("cpu", "cuda", "tpu")
"""Those that a module is lowered for, wherever it is exported."""

LARGEST = {
    archive.CARD: 1 << 20,
    ABOUT: 1 << 20,
    MODULE: 1 << 30,
    WEIGHTS: archive.LARGEST[archive.WEIGHTS],
}
"""The members beside the digests, and the most bytes of each."""

_CALLS = ("callback", "ffi_call", "custom_call")
"""Parts of the names of primitives that call what is not in the module."""


def lower_first(
    functions: Sequence[PixelFunction], channels: int, dtype: np.dtype
) -> tuple[PixelFunction, jax.export.Exported]:
    """Lowers the first of several functions that can be lowered; see `lower`.

    Args:
      functions: the best one first.
      channels: of their images.
      dtype: of their images.

    Returns:
      The function, and what it was lowered to.

    Raises:
      UserError: why the last cannot be lowered.
    """
    *others, last = functions
    for function in others:
        with contextlib.suppress(UserError):
            return function, lower(function, channels, dtype)
    return last, lower(last, channels, dtype)


def lower(pixels: PixelFunction, channels: int, dtype: np.dtype) -> jax.export.Exported:
    """Lowers a function for all platforms, for any number of images at a time.

    Args:
      pixels: the function.
      channels: of its images.
      dtype: of its images.

    Returns:
      A function of the list of arrays, the images, and the scales where it takes them.

    Raises:
      UserError: if the network does what a program cannot, naming the primitive of JAX where
        there is one.
    """
    weights, images = pixels.arguments(channels, dtype)

    # Plain forms, and the choices of a CPU: the same program on whatever it is exported.
    with forms("plain"), lowering_for("cpu"), without_source_files():
        function = jax.jit(pixels.of_list, keep_unused=True)
        try:
            return jax.export.export(function, platforms=PLATFORMS)(weights, *images)
        except UserError:
            raise
        except Exception as error:  # of the network's own code, too
            traced = _traced(function, weights, images)
            raise UserError(_reason(error, traced)) from error


@contextlib.contextmanager
def without_source_files() -> Iterator[None]:
    """Leaves out of modules which lines of which files of this machine they come from."""
    option = "jax_traceback_in_locations_limit"
    before = getattr(jax.config, option)
    jax.config.update(option, 0)
    try:
        yield
    finally:
        jax.config.update(option, before)


def _traced(function: Any, weights: list[Any], images: list[Any]) -> Any:
    """The equations of a function that cannot be exported; None where not even they are."""
    try:
        return function.trace(weights, *images).jaxpr
    except Exception:  # the reason is the one that the export has named
        return None


def _reason(error: Exception, traced: Any) -> str:
    """Says why a function cannot be exported."""
    line = str(error).strip().partition("\n")[0].rstrip(".:")[:300]
    found = re.search(
        r"primitive '?([\w-]+)'? not found for platform (\w+)", str(error)
    )
    calls = next((x for x in _primitives(traced) if any(y in x for y in _CALLS)), None)
    if found:
        why = f"uses the primitive {found[1]}, which JAX does not have on {found[2]}"
    elif calls:
        why = f"uses the primitive {calls}, which calls code that is not in a program"
    else:
        why = f"cannot be traced for any number of images ({line})"
    return (
        f"The network cannot be exported, as it {why}: replace that, or give the model file "
        "away (--format=segjax)."
    )


def _primitives(jaxpr: Any) -> Iterator[str]:
    """Names of the primitives of a program, also of the programs in it."""
    for equation in getattr(jaxpr, "eqns", ()):
        yield equation.primitive.name
        for inner in jax.tree.leaves(list(equation.params.values())):
            yield from _primitives(inner)


def _each(name: str, shape: Sequence[Any]) -> dict[str, list[int]]:
    """The shape of an output: the channels of a pixel, or all that is said of an image."""
    if name in OUTPUTS:
        return {"channels": list(shape[3:])}
    return {"shape": list(shape[1:])}


def write_stablehlo(
    file: IO[bytes],
    pixels: PixelFunction,
    lowered: jax.export.Exported,
    about: Mapping[str, Any],
    card: str,
) -> None:
    """Writes a program.

    Args:
      file: to be written, from its beginning.
      pixels: what was lowered.
      lowered: see `lower`.
      about: JSON on classes and the like, for `program.json`.
      card: Markdown for people.

    Raises:
      UserError: a part is too large for one file.
    """
    image, *_ = lowered.in_avals[len(pixels.weights) :]
    height, width = pixels.image_size
    kinds = jax.tree.unflatten(lowered.out_tree, lowered.out_avals)
    stated = {
        "format": FORMAT,
        "version": VERSION,
        "segjax": segjax.__version__,
        "jax": jax.__version__,
        "calling_convention": lowered.calling_convention_version,
        "platforms": list(lowered.platforms),
        "image": {
            "dtype": str(image.dtype),
            "channels": image.shape[-1],
            "height": height,
            "width": width,
        },
        "outputs": {
            name: {"dtype": str(kind.dtype), **_each(name, kind.shape)}
            for name, kind in sorted(kinds.items())
        },
        "weights": list(pixels.weights),
        **pixels.about,
        **about,
    }
    members = {
        archive.CARD: card.encode(),
        ABOUT: (json.dumps(stated, indent=2, sort_keys=True) + "\n").encode(),
        MODULE: lowered.mlir_module_serialized,
        WEIGHTS: to_safetensors(jax.device_get(pixels.weights)),
    }
    try:
        archive.write_archive(file, members, LARGEST)
    except ValueError as error:
        raise UserError(f"The program does not fit into one file: {error}.") from error
