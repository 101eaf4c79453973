"""Forms of ops: a context that jit knows of, and what is traced in each."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.layers.initializers import he_normal
from segjax.ops.base.forms import (
    forms,
    is_fast_on_cpu,
    is_on_accelerator,
    is_plain,
    lowering_for,
    platform,
    shards,
)
from segjax.ops.convolution.convolve import conv
from segjax.ops.convolution.transposed import conv_transpose
from segjax.ops.pooling.windowed import max_pool
from segjax.ops.resizing.resize import resize_bilinear


def random(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def test_the_context_ends_where_it_is_left():
    assert not is_plain()
    with forms("plain"):
        assert is_plain()
        assert not is_fast_on_cpu()
        with lowering_for("cuda", shards=8):
            assert (platform(), shards(), is_plain()) == ("cuda", 8, True)
        assert shards() == jax.device_count()
    assert not is_plain()
    with lowering_for("tpu"):
        assert is_on_accelerator()
        assert not is_fast_on_cpu()


def test_other_forms_are_refused():
    with pytest.raises(ValueError, match="'slow'; allowed are fast, plain"):
        forms("slow").__enter__()


def test_stock_pooling_is_an_operator_of_xla():
    x = random(1, 6, 7, 2)
    with forms("stock"):
        assert is_plain()
        traced = jax.make_jaxpr(partial(max_pool, window=3, stride=2, padding=1))(x)
        assert "reduce_window_max" in str(traced)
        stock = max_pool(x, window=3, stride=2, padding=1)
    np.testing.assert_array_equal(stock, max_pool(x, window=3, stride=2, padding=1))


def test_jit_traces_anew_in_another_context():
    traced = []

    @jax.jit
    def function(x):
        traced.append(is_plain())
        return x

    for wanted in ("fast", "plain", "fast", "plain"):
        with forms(wanted):
            function(jnp.ones(3))
    assert traced == [False, True]


@pytest.mark.quick(3)
@pytest.mark.parametrize(
    ("kernel", "options"),
    [
        ((1, 1, 8, 4), {}),
        ((3, 3, 1, 8), {"padding": 1, "groups": 8}),
        ((3, 3, 8, 4), {"padding": 12, "dilation": 12}),
        ((3, 3, 8, 4), {"padding": 1, "stride": 2}),
    ],
    ids=["pointwise", "depthwise", "dilated", "strided"],
)
@pytest.mark.parametrize("op", [conv, conv_transpose])
def test_both_forms_of_a_convolution_agree(op, kernel, options):
    if op is conv_transpose:
        kernel = (*kernel[:2], kernel[2], 8)
    x, k = random(2, 14, 13, 8), random(*kernel, seed=1)
    weights = None

    def loss(x, k):
        y = op(x, k, **options)
        return (y * weights).sum() if weights is not None else y

    with forms("plain"):
        y = loss(x, k)
        weights = random(*y.shape, seed=2)
        expected = y, *jax.grad(loss, (0, 1))(x, k)
        plain = str(jax.make_jaxpr(jax.grad(loss, (0, 1)))(x, k))
    found = op(x, k, **options), *jax.grad(loss, (0, 1))(x, k)
    assert str(jax.make_jaxpr(jax.grad(loss, (0, 1)))(x, k)) != plain
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5 * float(abs(b).max()))


def test_only_the_chosen_branch_is_traced():
    x, k = random(1, 8, 8, 8), random(1, 1, 8, 4)
    assert "platform_index" not in str(jax.make_jaxpr(conv)(x, k))
    with lowering_for("cuda"):
        text = str(jax.make_jaxpr(conv)(x, k))
    assert "conv_general_dilated" in text
    assert "dot_general" not in text


ACCELERATED = {
    "2x2": (partial(max_pool, window=2), "reduce_window_max", True),
    "3x3": (
        partial(max_pool, window=3, stride=2, padding=1),
        "reduce_window_max",
        False,
    ),
    "ceil": (partial(max_pool, window=2, ceil_mode=True), "reduce_window_max", True),
    "edges": (partial(resize_bilinear, size=(29, 20)), "dot_general", True),
    "corners": (
        partial(resize_bilinear, size=(5, 6), align_corners=True),
        "dot_general",
        True,
    ),
    "up": (
        lambda x: conv_transpose(x, random(2, 2, 3, 8, seed=1), stride=2),
        "lhs_dilation=(2, 2)",
        True,
    ),
}
"""An op, what its program has on a TPU, and whether it has it on a GPU, too."""


@pytest.mark.parametrize("name", ACCELERATED)
def test_forms_of_accelerators_are_those_of_cpus(name):
    op, primitive, on_gpu = ACCELERATED[name]
    x = random(2, 13, 11, 8)
    x = jnp.where(jnp.arange(8) < 4, x.round(), x)  # with equal maxima

    @jax.jit
    def both(x):
        y, pullback = jax.vjp(op, x)
        return y, pullback(jnp.cos(jnp.arange(y.size)).reshape(y.shape))[0]

    def lowered(platform):
        with lowering_for(platform):
            return both.trace(x).lower(lowering_platforms=(platform,)).as_text()

    with lowering_for("tpu"):
        found, traced = both(x), str(jax.make_jaxpr(op)(x))
    for a, b in zip(found, both(x), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5 * float(abs(b).max()))
    with lowering_for("gpu"):
        assert (primitive in str(jax.make_jaxpr(op)(x))) == on_gpu
    assert primitive in traced
    assert primitive not in str(jax.make_jaxpr(op)(x))
    assert "stablehlo" in lowered("tpu") + lowered("cuda")


@pytest.mark.parametrize(
    "options", [{}, {"output_padding": 1, "padding": 1}], ids=["blocks", "cropped"]
)
def test_transposed_convolution_of_accelerators_has_the_gradients_of_cpus(options):
    x, k = random(2, 5, 4, 8), random(2, 2, 3, 8, seed=1)

    @jax.jit
    def gradients(x, k):
        loss = lambda *a: (conv_transpose(*a, stride=2, **options) ** 2).sum()
        return jax.grad(loss, (0, 1))(x, k)

    with lowering_for("tpu"):
        found = gradients(x, k)
        flipped = str(jax.make_jaxpr(gradients)(x, k)).count("rev[")
    for a, b in zip(found, gradients(x, k), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5 * float(abs(b).max()))
    assert flipped <= 1  # the kernel, in the forward pass


def test_initial_weights_need_no_host_on_accelerators():
    """A call back to the host can be lowered for the machine alone that traces it."""
    init = jax.jit(lambda key: he_normal()(key, (3, 3, 8, 16)))
    with lowering_for("tpu"):
        traced = init.trace(jax.random.key(0))
        weights = init(jax.random.key(0))
    assert "custom_call" not in traced.lower(lowering_platforms=("tpu",)).as_text()
    assert float(weights.std()) == pytest.approx((2 / 72) ** 0.5, rel=0.1)
    assert "callback" in init.lower(jax.random.key(0)).as_text()
