"""Primitives of JAX as nodes of ONNX: the same numbers, by ONNX's own reference evaluator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

pytest.importorskip("onnx", reason="needs the package onnx")

import onnx
from onnx.reference import ReferenceEvaluator

from segjax.errors import UserError
from segjax.export.onnx.convert import to_model
from segjax.export.onnx.dimensions import Symbols, evaluate

NHWC = ("NHWC", "HWIO", "NHWC")
RNG = np.random.default_rng(0)
KERNEL = RNG.normal(size=(3, 2, 4, 6)).astype(np.float32)
GROUPED = RNG.normal(size=(3, 2, 2, 6)).astype(np.float32)
PLACES = np.array([3, 0, -1, 9])

Function = Callable[[jax.Array], Any]


def converted(function: Function, *sizes: Any, dtype: Any = np.float32) -> Any:
    """A function of an image of these sizes as a model with outputs "0", "1" and so on."""
    shape = jax.export.symbolic_shape(", ".join(map(str, sizes)))
    image = jax.ShapeDtypeStruct(shape, dtype)
    traced = jax.jit(lambda x: jax.tree.leaves(function(x))).trace(image).jaxpr
    names = [str(i) for i in range(len(traced.out_avals))]
    model = to_model(traced, [], (tuple(shape), np.dtype(dtype)), names)
    onnx.checker.check_model(model)
    return model


def check(function: Function, model: Any, image: np.ndarray) -> None:
    """Compares a model with the function that it was made of."""
    expected = jax.jit(lambda x: jax.tree.leaves(function(x)))(image)
    found = ReferenceEvaluator(model).run(None, {"image": image})
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def picture(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def conv(x: jax.Array, kernel: np.ndarray = KERNEL, **options: Any) -> jax.Array:
    usual = {"window_strides": (1, 1), "padding": ((0, 0), (0, 0))}
    return lax.conv_general_dilated(
        x, kernel, **(usual | options), dimension_numbers=NHWC
    )


def each_by_itself(x: jax.Array) -> list[jax.Array]:
    y = abs(x) + 0.1
    return [
        jnp.stack([jnp.log(y), jnp.exp(x), jnp.sqrt(y), lax.rsqrt(y), jnp.log1p(y)]),
        jnp.stack([jnp.tanh(x), lax.erf(x), lax.erfc(x), jax.nn.sigmoid(x)]),
        jnp.stack([jnp.round(3 * x), jnp.floor(x), jnp.ceil(x), jnp.sign(x)]),
        jnp.stack([x**2, x**3, y**1.5, x / y, lax.rem(x, y), jnp.clip(x, -0.5, y)]),
        jnp.stack([jnp.sin(x), jnp.cos(x), jnp.expm1(x), -x, jnp.minimum(x, 0.1)]),
        (x > 0) & ~(x >= 1) | (x == 0) ^ (x != x) | jnp.isfinite(x) & (x <= y),
    ]


def whole_numbers(x: jax.Array) -> list[jax.Array]:
    number = jnp.round(60 * abs(x)).clip(0, 255).astype(jnp.uint8)
    return [
        number * np.uint8(3) + np.uint8(200),
        -(number.astype(jnp.int32) - 100) // 7,
        lax.rem(number, np.uint8(7)),
        lax.select_n(number.astype(jnp.int32) % 3, x, 2 * x, 3 * x),
    ]


def reductions(x: jax.Array) -> list[jax.Array]:
    y = conv(x)  # stored as [B, C, H, W]
    return [
        y.sum((1, 2)),
        y.max(3),
        y.min((0, 3)),
        y.prod(2),
        (y > 2).any(1),
        (y > -9).all((1, 3)),
        y.argmax(3),
        y.argmin(1),
        y.cumsum(2),
        jnp.moveaxis(y, 3, 1)[:, 2],
    ]


def products(x: jax.Array) -> list[jax.Array]:
    return [
        jnp.einsum("bhwc,ck->bhwk", x, KERNEL[0, 0]),
        jnp.einsum("bhwc,bhwd->bcd", x, 2 * x),
        jnp.einsum("bhwc,bhvc->bhwv", x, x),
        jnp.einsum("bhwc,hk->bwck", x, np.ones((5, 3), np.float32)),
    ]


def readings(x: jax.Array) -> list[jax.Array]:
    place = x[:, :, :, 0].argmax(2)
    return [
        jnp.take(x, PLACES, axis=1),
        jnp.take(x, PLACES, axis=2, mode="clip"),
        x[:, ::2, 1::2],
        x[:, ::-1, -1],
        x[:, 1:4, 2:][..., 1],
        jnp.take_along_axis(x, place[:, :, None, None], axis=2),
        x[:, place[0], :, 1],
        lax.dynamic_slice(x, (0, place[0, 0], place[0, 1], 0), (2, 2, 3, 4)),
    ]


def writings(x: jax.Array) -> list[jax.Array]:
    blank, place = jnp.zeros((7, 4)), x[0, :, 0].argmax(1) * 3
    return [
        blank.at[place].add(x[0, :, 0], mode="drop"),
        blank.at[jnp.arange(5)].set(x[0, :, 1]),
        blank.at[place, jnp.arange(5) % 4].add(1.0, mode="clip"),
        jax.vmap(lambda y, i: y.at[i].set(7.0))(x[..., 1], x[:, :2, 0].argmax(2)),
    ]


def orders(x: jax.Array) -> list[jax.Array]:
    y = x[..., 0]
    return [jnp.sort(y, axis=1), jnp.argsort(y, axis=2), *lax.top_k(y, 3)]


def loops(x: jax.Array) -> list[jax.Array]:
    def step(total: jax.Array, row: jax.Array) -> tuple[jax.Array, jax.Array]:
        return total + row * KERNEL[0, 0].sum(), total.mean()

    total, means = lax.scan(step, x[0, 0], x[0], reverse=True)
    return [
        total,
        means,
        lax.map(lambda y: y.sum(0), x),
        lax.fori_loop(0, 3, lambda i, y: y * x[0, i], x[1, 0]),
        jax.vmap(lambda y: lax.while_loop(lambda z: z.max() < 9, lambda z: 2 * z, y))(
            abs(x) + jnp.arange(1.0, 3.0)[:, None, None, None]
        ),
        lax.cond(x.sum() > 0, lambda y: y * x, lambda y: y - 1, x),
    ]


FUNCTIONS: dict[str, Function] = {
    "strides": lambda x: conv(x, window_strides=(2, 1), padding=((1, 0), (0, 2))),
    "cropped": lambda x: conv(x, padding=((-1, 2), (0, -1))),
    "groups": lambda x: conv(x, GROUPED, feature_group_count=2, rhs_dilation=(1, 2)),
    "gaps": lambda x: conv(x, lhs_dilation=(2, 3), padding=((1, 1), (0, 1))),
    "maxima": lambda x: lax.reduce_window(
        *(x, -jnp.inf, lax.max, (1, 3, 2, 1), (1, 2, 1, 1)),
        ((0, 0), (1, 0), (0, 1), (0, 0)),
    ),
    "sums": lambda x: lax.reduce_window(
        *(x, 0.0, lax.add, (1, 3, 2, 1), (1, 2, 1, 1)),
        ((0, 0), (1, 0), (0, 1), (0, 0)),
    ),
    "padding": lambda x: [
        lax.pad(x, 2.0, ((0, 0, 0), (1, -2, 2), (-1, 3, 1), (0, 0, 0))),
        jnp.pad(conv(x), ((0, 0), (1, 0), (0, 2), (0, 0))),
    ],
    "shapes": lambda x: [
        conv(x).reshape(-1, 6),
        jnp.broadcast_to(conv(x).mean((1, 2), keepdims=True), (2, 3, 5, 6)),
        jnp.concatenate([conv(x), x[:, :3, :5]], -1),
        *jnp.split(conv(x), 3, axis=3),
        jnp.stack([x, 2 * x], 2),
    ],
    "each by itself": each_by_itself,
    "whole numbers": whole_numbers,
    "reductions": reductions,
    "products": products,
    "readings": readings,
    "writings": writings,
    "orders": orders,
}


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS.keys())
def test_numbers_are_those_of_jax(function: Function) -> None:
    check(function, converted(function, 2, 5, 6, 4), picture(2, 5, 6, 4))


def gaps_in_groups(x: jax.Array) -> list[jax.Array]:
    options = {"lhs_dilation": (2, 2), "feature_group_count": 2}
    return [
        conv(x, GROUPED, padding=((4, 5), (-1, 3)), rhs_dilation=(1, 2), **options),
        conv(x, GROUPED, padding=((2, 2), (1, 1)), window_strides=(2, 1), **options),
    ]


@pytest.mark.parity
@pytest.mark.parametrize("function", [loops, gaps_in_groups])
def test_numbers_of_a_runtime_are_those_of_jax(function: Function) -> None:
    """Of loops and groups, of which ONNX's own reference evaluator cannot do all."""
    runtime = pytest.importorskip("onnxruntime", reason="needs onnxruntime")
    model, image = converted(function, 2, 5, 6, 4), picture(2, 5, 6, 4)
    session = runtime.InferenceSession(model.SerializeToString())
    found = session.run(None, {"image": image})
    for one, other in zip(found, jax.jit(function)(image), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def of_any_size(x: jax.Array) -> list[jax.Array]:
    batch, height, width, _ = x.shape
    return [
        conv(x, padding=((1, 1), (0, 1))).mean((1, 2)),
        x.reshape(batch, height * width, 4),
        x.reshape(batch, height // 2, 2, width, 4).max(2),
        jnp.broadcast_to(jnp.arange(height)[:, None] * 2, (height, width)),
        jnp.pad(x, ((0, 0), (1, 0), (0, width), (0, 0)))[:, 1:, : width // 2],
        jnp.broadcast_to(x.sum((1, 2), keepdims=True), x.shape),
        x[:, height - 2 :],
    ]


def test_open_sizes_are_computed_from_the_image() -> None:
    model = converted(of_any_size, "batch", "2*height + 4", "width", 4)
    for shape in ((1, 6, 5, 4), (3, 8, 9, 4)):
        check(of_any_size, model, picture(*shape))


def test_sizes_are_read_as_jax_writes_them() -> None:
    height, width = jax.export.symbolic_shape("height, 3*width + 1")
    for size in (
        (height - 7) // 2 + 1,
        height % 3 * width - width**2,
        jax.core.max_dim(height, width) if hasattr(jax.core, "max_dim") else -height,
    ):
        for values in ({"height": 5, "width": 2}, {"height": 12, "width": 1}):
            found = evaluate(str(size), values)
            text = str(size).replace("^", "**")
            names = {"floordiv": lambda a, b: a // b, "mod": lambda a, b: a % b}
            assert found == eval(text, {"max": max, "min": min, **names}, values)
    assert Symbols("image", (height, width))._axes["width"] == (1, 3, 1)


def test_an_input_of_few_bits_is_computed_in_more() -> None:
    function = lambda x: [x.astype(jnp.float32) / 255, x + np.uint8(250)]
    image = np.arange(24, dtype=np.uint8).reshape(1, 2, 3, 4) * 10
    check(function, converted(function, 1, 2, 3, 4, dtype=np.uint8), image)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            lambda x: jax.named_call(lax.lgamma, name="Gammas")(x),
            r"ONNX: Gammas uses what this writer does not know \(the primitive lgamma of",
        ),
        (
            lambda x: lax.shift_left(x.astype(jnp.int32), 1) & 3,
            r"it .* \(the primitive shift_left of JAX\)\. Export it with --format=stablehlo",
        ),
        (
            lambda x: lax.convert_element_type(x, jnp.complex64).real,
            r"computes in complex64, which runtimes of ONNX do not \(the primitive",
        ),
    ],
)
def test_what_onnx_does_not_have_is_named(function: Function, message: str) -> None:
    with pytest.raises(UserError, match=message):
        converted(function, 1, 2, 3, 4)
