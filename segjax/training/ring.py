"""Kernels so large that no device should hold a whole one, not even while it is used.

The devices along `model` form a ring, and each has a part of the kernel. A part is applied where it
is, and passed on to the next device, until each device has applied all parts to its own examples;
so a device holds two parts at a time, and no map travels. In the backward pass the gradient of a
part travels with it and collects what each device adds, so that it comes home summed. A part goes
all around, so with n devices n / (n - 1) times the bytes travel of where kernels are gathered.

Source: S. Wang et al., "Overlap Communication with Dependent Computation via Decomposition in
Large Deep Learning Models", ASPLOS 2023.
"""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from segjax.ops.base.dtypes import wide_dtype
from segjax.ops.base.forms import lowering_for
from segjax.ops.base.kernels import Bilinear
from segjax.training.layout import Layout, Split
from segjax.types import Array

_EXAMPLES = PartitionSpec(("data", "model"))


@dataclasses.dataclass(frozen=True)
class Ring:
    """The devices that pass parts of kernels on; how kernels are applied on them.

    Attributes:
      mesh: all devices of the run.
      layout: what is divided among them.
    """

    mesh: Mesh
    layout: Layout

    @property
    def parts(self) -> int:
        """Into how many parts a kernel is divided."""
        return self.mesh.shape["model"]

    def axis(self, shape: tuple[int, ...]) -> Split:
        """The axis along which the parts of a kernel lie that are passed on.

        Args:
          shape: of a parameter.

        Returns:
          2 or 3, of channels; None for a parameter that is gathered.
        """
        is_large = len(shape) == 4 and math.prod(shape) >= self.layout.pass_size
        if not is_large or self.mesh.shape["rows"] > 1:
            return None
        axis = self.layout.split(shape, self.parts)
        return axis if axis in (2, 3) else None

    def __call__(
        self, function: Bilinear, x: Array, kernel: Array, inputs: int
    ) -> Array:
        """See `segjax.ops.base.kernels.apply_kernel`; traceable."""
        axis = self.axis(kernel.shape)
        if axis is None:
            return function(x, kernel)
        examples = self.parts * self.mesh.shape["data"]
        if x.shape[0] % examples or x.shape[-1] != kernel.shape[inputs]:
            whole = NamedSharding(self.mesh, PartitionSpec())
            return function(x, lax.with_sharding_constraint(kernel, whole))
        return _passed_on(function, self, axis == inputs, axis, x, kernel)

    def on_each(self, function: Any, axis: int, given: str, made: str) -> Any:
        """A function of what each device has; "k" is a part of a kernel, "x" are examples."""
        part = PartitionSpec(*[None] * axis, "model")
        place = {"k": part, "x": _EXAMPLES}
        outputs = tuple(place[kind] for kind in made)

        def alone(*arrays: Array) -> Any:
            platform = str(self.mesh.devices.flat[0].platform)
            with lowering_for(platform):
                return function(*arrays)

        return jax.shard_map(
            alone,
            mesh=self.mesh,
            in_specs=tuple(place[kind] for kind in given),
            out_specs=outputs if len(outputs) > 1 else outputs[0],
            check_vma=False,
        )

    def pass_on(self, part: Array) -> Array:
        """What the device before this one had."""
        ring = [(i, (i + 1) % self.parts) for i in range(self.parts)]
        return lax.ppermute(part, "model", ring)

    def home(self, turn: Array) -> Array:
        """The device that the part belongs to which is here after some turns."""
        return (lax.axis_index("model") - turn) % self.parts


def _channels(x: Array, home: Array, count: int) -> Array:
    """Those of the last axis that belong to one of `count` parts."""
    width = x.shape[-1] // count
    return lax.dynamic_slice_in_dim(x, home * width, width, axis=x.ndim - 1)


def _put(x: Array, channels: Array, home: Array) -> Array:
    """Puts them in their place."""
    start = home * channels.shape[-1]
    return lax.dynamic_update_slice_in_dim(x, channels, start, axis=x.ndim - 1)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2, 3))
def _passed_on(
    function: Bilinear, ring: Ring, sums: bool, axis: int, x: Array, kernel: Array
) -> Array:
    """`function(x, kernel)`, where each part of the kernel sees some input channels, and what
    they give is summed, or makes some output channels.
    """
    count = ring.parts

    def alone(x: Array, part: Array) -> Array:
        seen = _channels(x, jnp.zeros((), jnp.int32), count) if sums else x
        one = jax.eval_shape(function, seen, part)
        width = one.shape[-1] * (1 if sums else count)
        dtype = wide_dtype(one) if sums else one.dtype

        def turn(i: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
            held, y = carry
            home = ring.home(i)
            if sums:
                y = y + function(_channels(x, home, count), held)
            else:
                y = _put(y, function(x, held), home)
            return ring.pass_on(held), y

        zeros = jnp.zeros((*one.shape[:-1], width), dtype)
        return lax.fori_loop(0, count, turn, (part, zeros))[1].astype(one.dtype)

    return ring.on_each(alone, axis, "xk", "x")(x, kernel)


def _forward(
    function: Bilinear, ring: Ring, sums: bool, axis: int, x: Array, kernel: Array
) -> tuple[Array, tuple[Array, Array]]:
    return _passed_on(function, ring, sums, axis, x, kernel), (x, kernel)


def _backward(
    function: Bilinear,
    ring: Ring,
    sums: bool,
    axis: int,
    kept: tuple[Array, Array],
    cotangent: Array,
) -> tuple[Array, Array]:
    count = ring.parts

    def alone(x: Array, part: Array, dy: Array) -> tuple[Array, Array]:
        def turn(i: Array, carry: tuple[Array, ...]) -> tuple[Array, ...]:
            held, gradient, dx = carry
            home = ring.home(i)
            seen = _channels(x, home, count) if sums else x
            above = dy if sums else _channels(dy, home, count)
            of_seen, of_held = jax.vjp(function, seen, held)[1](above)
            dx = _put(dx, of_seen, home) if sums else dx + of_seen
            return ring.pass_on(held), ring.pass_on(gradient + of_held), dx

        zeros = jnp.zeros(x.shape, x.dtype if sums else wide_dtype(x))
        begin = part, jnp.zeros_like(part), zeros
        _, gradient, dx = lax.fori_loop(0, count, turn, begin)
        return dx.astype(x.dtype), lax.psum(gradient, "data")

    return ring.on_each(alone, axis, "xkx", "xk")(*kept, cotangent)


_passed_on.defvjp(_forward, _backward)
