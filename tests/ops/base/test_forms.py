"""Forms of ops: a context that jit knows of, and what is traced in each."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.ops.base.forms import (
    forms,
    is_fast_on_cpu,
    is_plain,
    lowering_for,
    platform,
    shards,
)
from segjax.ops.convolution.convolve import conv
from segjax.ops.convolution.transposed import conv_transpose


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
        assert not is_fast_on_cpu()


def test_other_forms_are_refused():
    with pytest.raises(ValueError, match="'slow'; allowed are fast, plain"):
        forms("slow").__enter__()


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
