"""Random changes of training examples: image, label and weight move together.

Every augmentation is a function `(example, rng, **arguments) -> example`. It never writes
into its input, keeps dtypes, and samples nothing but from `rng`, so an example is a function
of its record and its generator alone. A configuration names them as data:

    augment=(("flip", {}), ("quarter_turn", {}), ("elastic_deformation", {"std": 10.0}))

Images are sampled bilinearly. Every other array of an example (label, weight) is taken
from the nearest pixel, so no class is invented, an ignored pixel stays ignored, and a
weight stays with the label it was computed for. Beyond its borders an example is
continued by mirroring, the pixel at the edge not repeated; with `random_crop` or
`random_rotation` among the augmentations, what lies beyond does not count instead.

Those that move pixels are in `geometric`, those of grey values and colours in
`photometric`, those that choose the part of the record in `crops`. In a pipeline the
last of these come first, wherever they are listed, as one resampling of the record; then
`color_jitter`, which needs colours as they are seen; then the normalisation; then all
others in their order; then `copy_paste`, which needs a second example. `color_jitter` and
`rand_augment` are of the same step. So the usual recipe for photographs is

    augment=(
        ("random_scale", {"scale": (0.5, 2.0)}),
        ("random_crop", {}),
        ("flip", {"vertical": False}),
    )
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from segjax import parts
from segjax.data.augment.arguments import integer
from segjax.data.augment.copy_paste import copy_paste
from segjax.data.augment.crops import (
    Framing,
    random_crop,
    random_rotation,
    random_scale,
)
from segjax.data.augment.geometric import (
    LARGEST_SHIFT,
    elastic_deformation,
    elastic_margin,
    flip,
    quarter_turn,
    rotate_and_scale,
    rotation_margin,
)
from segjax.data.augment.photometric import (
    brightness_contrast,
    color_jitter,
    empty_page,
    gamma,
    gaussian_blur,
    gaussian_noise,
    illumination,
)
from segjax.data.augment.rand_augment import rand_augment
from segjax.errors import UserError, shown, suggestion
from segjax.types import Example

Augmentations = Sequence[tuple[str, Mapping[str, Any]]]
"""Augmentations of a config: `(name, arguments)` in the order of application."""

WHERE = "config.pipeline.augment"
"""The place of augmentations in a config."""

AUGMENTATIONS: dict[str, Callable[..., Example]] = {
    "flip": flip,
    "quarter_turn": quarter_turn,
    "brightness_contrast": brightness_contrast,
    "empty_page": empty_page,
    "gamma": gamma,
    "illumination": illumination,
    "gaussian_noise": gaussian_noise,
    "elastic_deformation": elastic_deformation,
    "rotate_and_scale": rotate_and_scale,
    "random_scale": random_scale,
    "random_rotation": random_rotation,
    "random_crop": random_crop,
    "color_jitter": color_jitter,
    "gaussian_blur": gaussian_blur,
    "rand_augment": rand_augment,
    "copy_paste": copy_paste,
}

_FRAMING = ("random_scale", "random_rotation", "random_crop")
_OF_COLORS = ("color_jitter", "rand_augment")
_OF_PAIRS = ("copy_paste",)

_MARGINS: dict[str, Callable[[tuple[int, int], Mapping[str, Any]], int]] = {
    "elastic_deformation": elastic_margin,
    "rotate_and_scale": rotation_margin,
}


def check(augment: Augmentations, channels: int = 3) -> None:
    """Raises UserError for a name, an argument or a value that cannot work.

    Args:
      augment: the augmentations.
      channels: of the images.
    """
    example: Example = {
        "image": np.zeros((4, 4, channels), np.float32),
        "label": np.zeros((4, 4), np.int32),
    }
    check_names(augment)
    _check_framing(augment)
    for name, arguments in augment:
        if name not in AUGMENTATIONS:  # it may want a label, and larger images
            continue
        try:
            tried = dict(arguments)
            if "margin" in tried:  # The example here is smaller than any margin.
                integer("margin", tried.pop("margin"), 0, LARGEST_SHIFT)
            given: Any = (example, example.copy) if name in _OF_PAIRS else example
            AUGMENTATIONS[name](given, np.random.default_rng(0), **tried)
        except (TypeError, ValueError) as error:
            raise UserError(
                f"config.pipeline.augment: '{name}' cannot run: {error}."
            ) from error


def apply(
    augment: Augmentations, example: Example, rng: np.random.Generator
) -> Example:
    """Applies augmentations in their order.

    Raises:
      UserError: for an augmentation or an argument that does not exist.
    """
    check_names(augment)
    for name, arguments in augment:
        if name in AUGMENTATIONS:
            example = AUGMENTATIONS[name](example, rng, **arguments)
        else:
            example = apply_outside(name, arguments, example, rng)
    return example


def combine(
    augment: Augmentations,
    example: Example,
    make_other: Callable[[], Example],
    rng: np.random.Generator,
) -> Example:
    """Applies augmentations of pairs; the other example is made where one asks for it."""
    for name, arguments in augment:
        example = AUGMENTATIONS[name]((example, make_other), rng, **arguments)
    return example


def apply_outside(
    name: str, arguments: Mapping[str, Any], example: Example, rng: np.random.Generator
) -> Example:
    """Applies an augmentation from outside, and looks at what it gives.

    Args:
      name: as "my_package.augment:stripes".
      arguments: its own.
      example: what it changes.
      rng: source of randomness.

    Returns:
      The example, of the same arrays in their shapes and dtypes.

    Raises:
      UserError: if it fails, or changes a shape or a dtype.
    """
    function = parts.find({}, name, WHERE)
    try:
        changed = function(example, rng, **arguments)
    except Exception as error:  # whatever code from outside can raise
        raise UserError(f"{WHERE}: '{name}' fails: {parts.told(error)}.") from error
    before = {key: (x.shape, x.dtype) for key, x in example.items()}
    is_example = isinstance(changed, Mapping)
    after = {k: _kind(x) for k, x in changed.items()} if is_example else {}
    if before != after:
        key = next((x for x in before if before[x] != after.get(x)), "")
        found = f"{key!r} as {after.get(key)}" if key else f"the keys {list(after)}"
        raise UserError(
            f"{WHERE}: '{name}' gives {found if is_example else type(changed).__name__}; an "
            "augmentation gives the example with the same keys, shapes and dtypes."
        )
    return changed


def _kind(x: Any) -> Any:
    return getattr(x, "shape", None), getattr(x, "dtype", None)


def framing_of(augment: Augmentations) -> Framing:
    """Collects what chooses the part of a record that an example shows."""
    given = dict(augment)
    outside_counts = not {"random_crop", "random_rotation"} & given.keys()
    return Framing(
        given.get("random_scale"), given.get("random_rotation"), outside_counts
    )


def of_colors(augment: Augmentations) -> Augmentations:
    """Picks those that want intensities in [0, 1], before the normalisation."""
    return tuple(step for step in augment if step[0] in _OF_COLORS)


def of_examples(augment: Augmentations) -> Augmentations:
    """Picks those of cropped and normalised examples."""
    others = (*_FRAMING, *_OF_COLORS, *_OF_PAIRS)
    return tuple(step for step in augment if step[0] not in others)


def of_pairs(augment: Augmentations) -> Augmentations:
    """Picks those that see a second example, too, when all others are done."""
    return tuple(step for step in augment if step[0] in _OF_PAIRS)


def with_margins(
    augment: Augmentations, size: tuple[int, int]
) -> tuple[Augmentations, int]:
    """Gives every warp the surroundings it reads, so that less has to be mirrored.

    A margin that the configuration states stays. Otherwise elastic deformation gets three
    standard deviations, and rotation as much as its largest angle and smallest scale need.

    Args:
      augment: the augmentations.
      size: `(height, width)` that shall come out at the end.

    Returns:
      The augmentations with margins, and by how many pixels on each side the example that
      goes in must exceed `size`.
    """
    check_names(augment)
    planned, total = [], 0
    for name, arguments in reversed(augment):
        if name in _MARGINS:
            bound = inspect.signature(AUGMENTATIONS[name]).bind_partial(**arguments)
            bound.apply_defaults()
            grown = (size[0] + 2 * total, size[1] + 2 * total)
            margin = arguments.get("margin", _MARGINS[name](grown, bound.arguments))
            arguments, total = {**arguments, "margin": margin}, total + margin
        planned.append((name, arguments))
    return tuple(reversed(planned)), total


def _check_framing(augment: Augmentations) -> None:
    for name in _FRAMING:
        given = [arguments for other, arguments in augment if other == name]
        if len(given) > 1:
            raise UserError(f"config.pipeline.augment: '{name}' stands there twice.")
        if name == "random_crop" and given and "size" in given[0]:
            raise UserError(
                "config.pipeline.augment: the size of 'random_crop' is "
                "config.pipeline.input_size; leave it out here."
            )


def check_names(
    augment: Augmentations, known: Mapping[str, Callable[..., Any]] = AUGMENTATIONS
) -> None:
    """Raises UserError for an augmentation or an argument that does not exist.

    Args:
      augment: the augmentations.
      known: functions `(example, rng, **arguments)` by name.
    """
    if isinstance(augment, str) or not isinstance(augment, Sequence):
        raise UserError(
            "config.pipeline.augment is a sequence of (name, arguments), for example"
            f" (('flip', {{}}),); found {shown(augment)}."
        )
    for entry in augment:
        pair = isinstance(entry, Sequence) and len(entry) == 2
        if not pair or not isinstance(entry[1], Mapping):
            raise UserError(
                "config.pipeline.augment: an augmentation is written as (name,"
                f" arguments), for example ('flip', {{}}); found {shown(entry)}."
            )
        name, arguments = entry
        is_known = isinstance(name, str) and name in known
        if not is_known and not parts.is_outside(name):
            raise UserError(
                f"config.pipeline.augment: there is no augmentation '{name}'."
                f"{suggestion(str(name), known)}"
            )
        taken = parts.inspect_arguments(parts.find(known, name, WHERE), WHERE)
        takes_any = any(x.kind is x.VAR_KEYWORD for x in taken.values())
        allowed = list(taken)[2:]
        for argument in arguments:
            if argument not in allowed and not takes_any:
                raise UserError(
                    f"config.pipeline.augment: '{name}' has no argument '{argument}'."
                    f"{suggestion(str(argument), allowed)}"
                )
