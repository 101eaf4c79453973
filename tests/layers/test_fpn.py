"""The pyramid: what each of its maps is made of, and its sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.layers.fpn import FPN
from segjax.layers.norm import Norm
from segjax.ops.convolution.convolve import conv


def random_weights(module, stages, seed=0):
    init = lambda stages: module.init(jax.random.key(0), stages, train=False)
    shapes = jax.eval_shape(init, stages)
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: jnp.asarray(rng.uniform(0.1, 1, leaf.shape), jnp.float32), shapes
    )


@pytest.fixture(scope="module")
def stages():
    rng = np.random.default_rng(1)
    sizes = ((7, 5, 2), (4, 3, 3), (2, 2, 4))
    return tuple(jnp.asarray(rng.normal(size=(1, *s)), jnp.float32) for s in sizes)


def test_each_map_is_its_lateral_plus_the_coarser_sum_copied_and_convolved(stages):
    module = FPN(features=3)
    variables = random_weights(module, stages)

    def unit(name, x, padding):
        params = variables["params"][name]["conv"]
        return conv(x, params["kernel"], padding=padding) + params["bias"]

    with jax.numpy_rank_promotion("allow"):
        merged, expected = None, []
        for level in (4, 3, 2):
            x = unit(f"lateral{level}", stages[level - 2], 0)
            if merged is not None:
                rows, columns = (
                    np.arange(n) * m // n
                    for n, m in zip(x.shape[1:3], merged.shape[1:3], strict=True)
                )
                x = x + merged[:, rows][:, :, columns]
            merged = x
            expected.insert(0, unit(f"output{level}", x, 1))
    found = module.apply(variables, stages, train=False)
    assert len(found) == 4
    for a, b in zip(found, expected, strict=False):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(found[3], found[2][:, ::2, ::2])


def test_without_the_additional_level_there_are_as_many_maps_as_stages(stages):
    module = FPN(features=3, extra_level=False)
    found = jax.eval_shape(
        lambda x: module.init_with_output(jax.random.key(0), x, train=False)[0], stages
    )
    assert [x.shape for x in found] == [(1, 7, 5, 3), (1, 4, 3, 3), (1, 2, 2, 3)]


def test_without_output_convolutions_maps_are_the_sums(stages):
    module = FPN(features=3, extra_level=False, output_convs=False)
    variables = random_weights(module, stages)
    assert set(variables["params"]) == {"lateral2", "lateral3", "lateral4"}
    params = variables["params"]["lateral4"]["conv"]
    with jax.numpy_rank_promotion("allow"):
        expected = conv(stages[2], params["kernel"]) + params["bias"]
    found = module.apply(variables, stages, train=False)
    np.testing.assert_allclose(found[2], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("norm", "leaves"),
    [
        (None, {"kernel", "bias"}),
        (Norm(), {"kernel", "scale", "bias", "mean", "var"}),
        (Norm("group", groups=2), {"kernel", "scale", "bias"}),
    ],
)
def test_convolutions_have_a_bias_or_a_norm(stages, norm, leaves):
    module = FPN(features=4, norm=norm)
    init = lambda x: module.init(jax.random.key(0), x, train=False)
    flat = jax.tree_util.tree_leaves_with_path(jax.eval_shape(init, stages))
    assert {path[-1].key for path, _ in flat} == leaves
    biases = [path for path, _ in flat if path[-1].key == "bias"]
    assert {path[-2].key for path in biases} == {"norm" if norm else "conv"}


def test_no_stage_is_refused_in_one_sentence():
    with pytest.raises(
        ValueError, match=r"^stages is empty; allowed is at least one map"
    ):
        FPN().init(jax.random.key(0), (), train=False)
