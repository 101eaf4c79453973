"""Any optimizer of Optax by its name, with what all of them can do here.

The keys of `Common` belong to segjax, all others of `config.optimizer` to the function that is
named. An argument that is an optimizer itself is such a group, too: `base_optimizer`.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import optax

from segjax import parts
from segjax.errors import UserError, shown, suggestion
from segjax.training.optimizers.kept_points import (
    check_steps,
    frozen_within,
    name_in_optax,
)
from segjax.training.optimizers.lr_multipliers import (
    Multipliers,
    decay_by_layer,
    matching,
    with_multipliers,
)
from segjax.training.optimizers.matrices import ADAM_ON, AXES, matrix_axes
from segjax.training.optimizers.optim import OPTIMIZERS, sgd
from segjax.types import is_count

Make = Callable[[optax.Schedule], optax.GradientTransformation]
Blocks = Callable[[], tuple[tuple[str, ...], ...]]
"""Names the modules of the blocks of a network, from the image on."""

RATES = ("schedule", "learning_rate", "scaling")
"""Arguments that the schedule is given as; the last is that of Polyak's step size."""

MASKS = ("mask", "weight_decay_mask")
"""Arguments of Optax's functions that say which parameters the decay acts on."""

FRACTIONS = ("momentum", "beta", "b1", "b2", "b3", "rho", "decay")
NOT_NEGATIVE = ("weight_decay", "weight_decay_rate", "adam_weight_decay")
CHANGE_STEPS = ("layer_decay", "multipliers", "after")
"""Keys of `Common` that change where a step leads."""


UNSCHEDULED = {
    "optimistic_adam": "takes no schedule; optimistic_adam_v2 does",
    "rprop": "takes the size of its first step alone, and fits the sizes itself",
}
"""Functions whose `learning_rate` is a number, and why it cannot follow a schedule."""

SCALED = ("sm3",)
"""Functions whose `learning_rate` is a number that their updates are in proportion to."""


@dataclass(frozen=True)
class Common:
    """What every optimizer can do.

    Attributes:
      clip_norm: where given, gradients with a larger Euclidean norm are scaled to it.
      decay_on: patterns of the parameters that weight decay acts on; None for all kernels,
        so neither biases nor scales of a norm.
      multipliers: factors of the rate of some parameters, see `with_multipliers`.
      layer_decay: factor of the rate from each block of the network to the one before it:
        the last block has the rate of the schedule, the first the smallest (Bao et al. 2021,
        BEiT, arXiv 2106.08254).
      accumulate: batches whose mean gradient makes one update (Caffe's `iter_size`); the
        rate is that of the step of the first.
      after: transformations of the updates, as pairs of a name and arguments, such as
        (("optax.contrib:reduce_on_plateau", {"patience": 5}),).
    """

    clip_norm: float | None = None
    decay_on: tuple[str, ...] | None = None
    multipliers: Multipliers = ()
    layer_decay: float | None = None
    accumulate: int = 1
    after: tuple[tuple[str, Mapping[str, Any]], ...] = ()

    def __post_init__(self) -> None:
        """Checks the values before anything is made of them."""
        _check("clip_norm", self.clip_norm, lambda x: x > 0, "greater than 0, or None")
        allowed = "greater than 0 and at most 1, or None"
        _check("layer_decay", self.layer_decay, lambda x: 0 < x <= 1, allowed)
        if not is_count(self.accumulate):
            raise ValueError(
                "accumulate is an integer number of batches, at least 1, got "
                f"{self.accumulate!r}"
            )
        if self.decay_on is not None and not (
            isinstance(self.decay_on, tuple)
            and all(isinstance(pattern, str) for pattern in self.decay_on)
        ):
            raise ValueError(
                'decay_on is a tuple of patterns, such as ("*/kernel",), or None, got '
                f"{self.decay_on!r}"
            )
        with_multipliers(optax.identity(), self.multipliers)


COMMON = tuple(field.name for field in fields(Common))


def make_optimizer(
    group: Mapping[str, Any],
    schedule: optax.Schedule,
    *,
    peak: float | None = None,
    blocks: Blocks | None = None,
    where: str = "config.optimizer",
) -> optax.GradientTransformationExtraArgs:
    """Makes the optimizer that a group names.

    Args:
      group: such as `config.optimizer`: a name, keys of `Common`, arguments.
      schedule: the rate by step.
      peak: the rate that `adam_learning_rate` is compared with, `config.schedule`'s own.
      blocks: names the network's blocks; asked for where there is a `layer_decay`.
      where: the place of the group, for messages.

    Returns:
      The optimizer. Its update takes the loss as `value`, for those that want it.

    Raises:
      UserError: naming the key that is wrong.

    Example:
      >>> import numpy as np
      >>> lion = make_optimizer({"name": "optax:lion", "clip_norm": 1.0}, lambda step: 1e-4)
      >>> params = {"kernel": np.ones(2, np.float32)}
      >>> updates, _ = lion.update(params, lion.init(params), params, value=0.5)
      >>> updates["kernel"].tolist() == [-0.00010010000551119447] * 2
      True
    """
    make, accumulate, _ = _maker(group, where, peak, blocks)
    if accumulate == 1:
        return optax.with_extra_args_support(make(schedule))
    # The mean of `accumulate` gradients is taken before anything else, clipping included.
    # Steps are still counted in batches: the schedule is read at the first batch of each
    # update, so a run ends with the same rate, however many it accumulates.
    steps = optax.MultiSteps(make(lambda n: schedule(n * accumulate)), accumulate)
    return optax.GradientTransformationExtraArgs(steps.init, steps.update)


def _maker(
    group: Mapping[str, Any], where: str, peak: float | None, blocks: Blocks | None
) -> tuple[Make, int, Multipliers]:
    """Checks a group; gives what makes its optimizer, `accumulate`, and the multipliers."""
    parts.require_group(group, where)
    name = group.get("name")
    function = parts.find(OPTIMIZERS, name, f"{where}.name")
    takes = parts.inspect_arguments(function, where)
    given = parts.arguments(group)
    ours = {key: given.pop(key) for key in COMMON if key in given.keys() - takes.keys()}
    common = parts.call(Common, ours, where)
    if function is sgd:  # the state of its decay is in every checkpoint
        given.setdefault("weight_decay", 0.0)
    decay = None
    if not {"weight_decay", "weight_decay_rate"} & takes.keys():
        decay = given.pop("weight_decay", None)
    values = {**given, "weight_decay": decay or given.get("weight_decay")}
    _check_values(values, where, name_in_optax(function))
    axes = next((key for key in AXES if key in takes and key not in given), None)
    adam_on = given.pop("adam_on", ADAM_ON) if axes else ()
    inner = {
        key: _maker(value, f"{where}.{key}", peak, blocks)
        for key, value in given.items()
        if isinstance(value, Mapping) and "name" in value
    }
    for key, (_, accumulate, _) in inner.items():
        if accumulate > 1:
            raise UserError(f"{where}.{key}.accumulate belongs to {where}: move it.")
    rate = next((key for key in RATES if key in takes), None)
    if (kept := name_in_optax(function)) in UNSCHEDULED:
        raise UserError(
            f"{where}.name is {name!r}, which {UNSCHEDULED[kept]}: it would not follow "
            "config.schedule."
        )
    _check_arguments(function, takes, given, where, rate, bool(inner))
    mask = _mask(function, takes, given, common, decay, where)
    given_keys = [x for x in CHANGE_STEPS if getattr(common, x)]
    check_steps(function, name, given_keys, where)
    multipliers = _multipliers(common, blocks, where)
    multipliers += frozen_within(function, {key: x[2] for key, x in inner.items()})

    def make(schedule: optax.Schedule) -> optax.GradientTransformation:
        arguments = {**given, **mask, **{key: inner[key][0](schedule) for key in inner}}
        if axes is not None:
            kind = AXES[axes]
            arguments[axes] = lambda params: matrix_axes(params, adam_on, kind)
        if arguments.get("adam_learning_rate") is not None:
            arguments["adam_learning_rate"] = _in_proportion(
                schedule, arguments["adam_learning_rate"], peak, where
            )
        after = [_after(entry, where) for entry in common.after]
        if name_in_optax(function) in SCALED:
            arguments["learning_rate"] = 1.0
            after.insert(0, optax.scale_by_schedule(schedule))
        elif rate is not None:
            arguments.setdefault(rate, schedule)
        chain = [] if common.clip_norm is None else [_clip(common.clip_norm)]
        if decay is not None:
            chain.append(optax.add_decayed_weights(decay, mask=_decays(common)))
        chain += [_called(function, name, arguments, where), *after]
        # The state of a single one from outside is its own, as that of ours never was.
        alone = len(chain) == 1 and name not in OPTIMIZERS
        return with_multipliers(chain[0] if alone else optax.chain(*chain), multipliers)

    return make, common.accumulate, multipliers


def _called(
    function: Callable[..., Any], name: Any, arguments: Mapping[str, Any], where: str
) -> optax.GradientTransformation:
    """Calls a function of Optax or from outside; what it raises becomes a sentence."""
    try:
        made = function(**arguments)
    except Exception as error:  # whatever code from outside can raise
        raise UserError(f"{where}: {name} fails: {parts.told(error)}.") from error
    if not (hasattr(made, "init") and hasattr(made, "update")):
        raise UserError(
            f"{where}.name is {name!r}, which makes a {type(made).__name__}: an optimizer "
            "is a GradientTransformation of Optax."
        )
    takes = inspect.signature(made.update).parameters
    if "value" in takes or any(x.kind is x.VAR_KEYWORD for x in takes.values()):
        return made
    return optax.GradientTransformation(made.init, made.update)


def _after(entry: Any, where: str) -> optax.GradientTransformation:
    """Makes a transformation of the updates."""
    if not (isinstance(entry, tuple | list) and len(entry) == 2):
        raise UserError(
            f"{where}.after holds pairs of a name and arguments, got {shown(entry)}."
        )
    name, arguments = entry
    function = parts.find({}, name, f"{where}.after")
    given = parts.check_arguments(function, arguments, f"{where}.after, {name}")
    return _called(function, name, given, where)


def _check_arguments(
    function: Callable[..., Any],
    takes: Mapping[str, Any],
    given: Mapping[str, Any],
    where: str,
    rate: str | None,
    has_inner: bool,
) -> None:
    """Checks the keys that are the function's own.

    Raises:
      UserError: if one is unknown, one is missing, or it would not follow the schedule.
    """
    if rate is None and not has_inner:
        needed = [k for k in ("base_optimizer", "optimizer") if k in takes]
        if needed:
            raise UserError(
                f'{where}.{needed[0]} is missing: a group such as dict(name="adamw").'
            )
        raise UserError(
            f"{where}.name is {function.__name__!r}, which takes neither schedule nor "
            "learning_rate: it would not follow config.schedule."
        )
    is_nested = where != "config.optimizer" and rate in given
    later = (rate,) if rate is not None and not is_nested else ()
    parameters = takes.values()
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        known = (takes.keys() - set(later)) | set(COMMON)
        for key in given.keys() - takes.keys() | (given.keys() & set(later)):
            raise UserError(
                f'{where} has an unknown key "{key}".{suggestion(key, known)}'
            )
    parts.check_arguments(function, given, where, given_later=later)


def _check_values(given: Mapping[str, Any], where: str, kept: str) -> None:
    """Checks values whose names say what they can be, in Optax's function `kept`."""
    try:
        if kept.startswith("schedule_free"):  # which divides by it
            allowed = "greater than 0 and less than 1"
            _check("b1", given.get("b1"), lambda x: 0 < x < 1, allowed)
        for key in FRACTIONS:
            _check(
                key, given.get(key), lambda x: 0 <= x < 1, "at least 0 and less than 1"
            )
        for key in NOT_NEGATIVE:
            finite = lambda x: 0 <= x < math.inf
            _check(key, given.get(key), finite, "a finite number of at least 0")
        _check("eps", given.get("eps"), lambda x: x > 0, "greater than 0")
    except (TypeError, ValueError) as error:
        raise UserError(f"{where}.{error}.") from error


def _check(
    name: str, value: Any, is_right: Callable[[Any], bool], allowed: str
) -> None:
    """Raises ValueError unless a value, where there is one, is right."""
    if value is not None and not (isinstance(value, int | float) and is_right(value)):
        raise ValueError(f"{name} must be {allowed}, got {value!r}")


def _mask(
    function: Callable[..., Any],
    takes: Mapping[str, Any],
    given: Mapping[str, Any],
    common: Common,
    decay: float | None,
    where: str,
) -> dict[str, Any]:
    """The argument that keeps the weight decay of Optax's function to some parameters."""
    keys = [key for key in MASKS if key in takes and key not in given]
    if keys and name_in_optax(function):
        return {keys[0]: _decays(common)}
    if common.decay_on is not None and decay is None:
        raise UserError(
            f"{where}.decay_on is {shown(common.decay_on)}, but {function.__name__} has no "
            "weight_decay that could be kept to some parameters: leave decay_on out."
        )
    return {}


def _decays(common: Common) -> Callable[[optax.Params], Any]:
    """Marks what weight decay acts on."""
    if common.decay_on is None:
        return kernels
    return lambda params: matching(params, common.decay_on or (), "decay_on")


def kernels(params: optax.Params) -> Any:
    """Marks kernels, as opposed to biases and scales of a norm.

    Example:
      >>> kernels({"conv": {"kernel": 0.5, "bias": 0.0}})
      {'conv': {'bias': False, 'kernel': True}}
    """
    return matching(params, ("*/kernel", "kernel"), None)


def _multipliers(common: Common, blocks: Blocks | None, where: str) -> Multipliers:
    """The rates by pattern and by layer."""
    multipliers = common.multipliers
    if common.layer_decay is not None:
        if blocks is None:
            raise UserError(
                f"{where}.layer_decay needs a network, to count its blocks."
            )
        multipliers += decay_by_layer(blocks(), common.layer_decay)
    return multipliers


def _clip(norm: float) -> optax.GradientTransformation:
    return optax.clip_by_global_norm(norm)


def _in_proportion(
    schedule: optax.Schedule, rate: float, peak: float | None, where: str
) -> optax.Schedule:
    """The schedule, times what makes `rate` of the rate that it is named by."""
    if not peak:
        raise UserError(
            f"{where}.adam_learning_rate is {rate}, but config.schedule has no "
            "learning_rate above 0 that it could be compared with."
        )
    return lambda count: schedule(count) * (rate / peak)
