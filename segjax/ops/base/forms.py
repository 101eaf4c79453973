"""Which form of an op is traced: its plain definition, or one that is fast where it runs.

An op is written as the lectures define it. Where a backend is slow at that, a form of the same
numbers to rounding lives in `segjax.ops.cpu`, and the op asks here which is wanted:

    with forms("plain"):
        logits = jax.jit(model.apply)(variables, image)

Fast where it runs means where it is lowered for, which need not be this machine:

    with lowering_for("tpu"):
        traced = jax.jit(step).trace(state, batch)
    lowered = traced.lower(lowering_platforms=("tpu",))

A run sets it from its mesh (`segjax.training.sharding.Devices.lowering`). Without it, as in a
notebook, it is the backend of this process; this is the one place that asks for that. Only the
chosen form is traced. The choice is part of the key under which JAX keeps what it traced and
compiled, so a function that was jitted once is traced anew in another context.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Literal, NamedTuple

import jax

Forms = Literal["fast", "plain", "stock"]
FORMS: tuple[Forms, ...] = ("fast", "plain", "stock")


class _Setting(NamedTuple):
    forms: Forms = "fast"
    platform: str | None = None
    shards: int | None = None
    rows: int = 1


_DEFAULT = _Setting()
_setting = jax.make_user_context(default_value=_DEFAULT)


@contextlib.contextmanager
def forms(wanted: Forms) -> Iterator[None]:
    """Traces ops in these forms.

    Args:
      wanted: "fast", which is the default, or "plain"; "stock" is plain, and where XLA has
        an operator for all of it, such as pooling, it is that operator, which compilers of
        other houses know, too.

    Yields:
      Nothing; the context ends where it is left.

    Raises:
      ValueError: if there are no such forms.

    Example:
      >>> with forms("plain"):
      ...     is_plain()
      True
    """
    if wanted not in FORMS:
        raise ValueError(f"wanted is {wanted!r}; allowed are {', '.join(FORMS)}")
    with _setting(_setting.value._replace(forms=wanted)):
        yield


@contextlib.contextmanager
def lowering_for(platform: str, shards: int = 1, rows: int = 1) -> Iterator[None]:
    """Traces ops for a platform that need not be that of this machine.

    Args:
      platform: "cpu", "tpu", "gpu", or of GPUs "cuda" or "rocm".
      shards: over how many devices a batch is divided.
      rows: over how many devices the rows of an image are divided.

    Yields:
      Nothing; the context ends where it is left.
    """
    with _setting(_setting.value._replace(platform=platform, shards=shards, rows=rows)):
        yield


def is_plain() -> bool:
    """Whether plain definitions are wanted."""
    return _setting.value.forms != "fast"


def wants_stock() -> bool:
    """Whether XLA's own operators are wanted wherever there is one."""
    return _setting.value.forms == "stock"


def platform() -> str:
    """The platform that is lowered for; without a context, that of this process."""
    return _setting.value.platform or jax.default_backend()


def is_fast_on_cpu() -> bool:
    """Whether the forms that are fast on XLA's CPU backend are wanted.

    Not where rows are divided: those forms take blocks of rows one after the other, for which
    each device would fetch the whole map. XLA's own operators fetch the rows at the border.
    """
    return not is_plain() and platform() == "cpu" and not is_divided_by_rows()


def is_divided_by_rows() -> bool:
    """Whether several devices share the rows of an image."""
    return _setting.value.rows > 1


def is_on_accelerator() -> bool:
    """Whether programs are for an accelerator, where XLA's own operators are the fast ones."""
    return platform() != "cpu"


def shards() -> int:
    """Over how many devices a batch may be divided."""
    return _setting.value.shards or jax.device_count()
