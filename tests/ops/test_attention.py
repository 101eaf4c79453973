"""Attention beside NumPy, whole and in blocks."""

from functools import partial

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.ops.attention import dot_product_attention


def arrays(queries=7, keys=5, heads=2, size=3):
    rng = np.random.default_rng(0)
    shapes = (2, queries, heads, size), (2, keys, heads, size), (2, keys, heads, size)
    return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


def expected(query, key, value):
    scores = np.einsum("bnhd,bmhd->bhnm", query, key) / np.sqrt(query.shape[-1])
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return np.einsum("bhnm,bmhd->bnhd", weights, value)


@pytest.mark.parametrize("largest", [1 << 20, 50, 1])
def test_values_are_averaged_by_the_softmax_of_products(largest):
    given = arrays()
    attend = jax.jit(lambda *x: dot_product_attention(*x, largest=largest))
    np.testing.assert_allclose(attend(*given), expected(*given), atol=1e-6)


def test_blocks_have_the_gradient_of_the_whole_and_fewer_scores_in_memory():
    given = arrays(queries=64, keys=64)

    def loss(largest):
        return lambda *x: (dot_product_attention(*x, largest=largest) ** 2).sum()

    whole, blocks = (jax.grad(loss(n), (0, 1, 2)) for n in (1 << 20, 2048))
    for a, b in zip(whole(*given), blocks(*given), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    largest = max(
        aval.size
        for eqn in jax.make_jaxpr(loss(2048))(*given).eqns
        for aval in (x.aval for x in eqn.outvars)
    )
    assert largest < 2 * 2 * 64 * 64


def test_it_maps_over_more_axes_and_keeps_bfloat16():
    given = arrays()
    more = [jnp.stack([x, 2 * x]) for x in given]
    mapped = jax.vmap(dot_product_attention)(*more)
    np.testing.assert_allclose(mapped[1], expected(*(2 * x for x in given)), atol=1e-5)
    half = dot_product_attention(*(jnp.asarray(x, jnp.bfloat16) for x in given))
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(np.float32), expected(*given), atol=0.03)


@pytest.mark.parametrize("largest", [1 << 20, 50])
def test_a_program_takes_any_number_of_images(largest):
    given = arrays()
    scope = jax.export.SymbolicScope()
    open_shapes = [
        jax.ShapeDtypeStruct(
            jax.export.symbolic_shape("batch, ...", like=x.shape, scope=scope), x.dtype
        )
        for x in given
    ]
    attend = jax.jit(lambda *x: dot_product_attention(*x, largest=largest))
    program = jax.export.export(attend)(*open_shapes)
    for count in (1, 2):
        some = [x[:count] for x in given]
        np.testing.assert_allclose(program.call(*some), expected(*some), atol=1e-6)


def test_shapes_that_do_not_fit_are_named():
    query, key, value = arrays()
    with pytest.raises(ValueError, match=r"got \(2, 7, 2, 3\), \(2, 5, 1, 3\)"):
        dot_product_attention(query, key[:, :, :1], value[:, :, :1])
    with pytest.raises(ValueError, match="largest is at least 1, got 0"):
        dot_product_attention(query, key, value, largest=0)


def test_an_open_number_of_images_is_taken_for_one():
    shape = jax.export.symbolic_shape("batch, 6, 1, 2")
    image = jax.ShapeDtypeStruct(shape, jnp.float32)
    for largest, takes_blocks in ((36, False), (20, True)):
        attend = partial(dot_product_attention, largest=largest)
        assert (
            "scan" in str(jax.make_jaxpr(attend)(image, image, image))
        ) == takes_blocks
