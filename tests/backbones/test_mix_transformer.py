"""Mix Transformer: counts of Hugging Face's networks, sizes, what is left out in training."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.backbones.mix_transformer import MixTransformer, TransformerBlock
from segjax.geometry.fields import output_size

WIDE = (64, 128, 320, 512)
TINY = MixTransformer(features=(4, 4, 5, 8), blocks=(1, 1, 1, 1))


def shapes(model, height=65, width=65):
    image = jax.ShapeDtypeStruct((1, height, width, 3), jnp.float32)
    init = lambda x: model.init_with_output(jax.random.key(0), x, train=False)
    return jax.eval_shape(init, image)


@pytest.mark.quick(2)
@pytest.mark.parametrize(
    ("features", "blocks", "expected"),
    [
        ((32, 64, 160, 256), (2, 2, 2, 2), 3_576_392),
        (WIDE, (2, 2, 2, 2), 13_664_424),
        (WIDE, (3, 4, 6, 3), 24_709_288),
        (WIDE, (3, 4, 18, 3), 44_585_128),
        (WIDE, (3, 8, 27, 3), 61_355_688),
        (WIDE, (3, 6, 40, 3), 81_956_008),
    ],
)
def test_parameter_counts_are_those_of_the_classifiers(features, blocks, expected):
    model = MixTransformer(1000, features=features, blocks=blocks)
    found = shapes(model)[1]["params"]
    assert sum(x.size for x in jax.tree.leaves(found)) == expected
    for size in (f"{features[-1]} |", f"{expected:,} |"):
        assert size in MixTransformer.__doc__


@pytest.mark.parametrize("side", [29, 64, 65, 97])
def test_layers_give_the_sizes_of_the_network(side):
    stages, _ = shapes(TINY, side, 32)
    assert list(stages) == ["stage2", "stage3", "stage4", "stage5"]
    for i, (stage, found) in enumerate(stages.items(), 2):
        expected = -(-side // 2**i)
        assert output_size(TINY.layers(stage), side) == found.shape[1] == expected


def test_the_minimum_is_the_least_side_that_has_a_key():
    assert TINY.minimum == 29
    assert shapes(TINY, 29, 29)
    with pytest.raises(ValueError, match="the kernel"):
        shapes(TINY, 28, 29)


def test_branches_are_left_out_for_whole_images_and_in_training_alone():
    block = TransformerBlock(heads=1, reduction=1, drop_path_rate=0.5)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(8, 3, 2, 4)), jnp.float32)
    variables = block.init(jax.random.key(0), x, train=False)
    params = dict(variables["params"])
    params["mix_ffn"] = jax.tree.map(jnp.zeros_like, params["mix_ffn"])
    apply = lambda train: block.apply(
        {"params": params}, x, train=train, rngs={"dropout": jax.random.key(1)}
    )
    branch = apply(train=False) - x
    factors = ((apply(train=True) - x) * branch).sum((1, 2, 3)) / (branch**2).sum(
        (1, 2, 3)
    )
    assert set(np.asarray(factors).round(2).tolist()) == {0.0, 2.0}
    scaled = factors[:, None, None, None] * branch
    np.testing.assert_allclose(apply(train=True) - x, scaled, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"features": (4, 4, 4, 8)}, "features are multiples of heads (1, 2, 5, 8)"),
        ({"blocks": (2, 2)}, "blocks holds 4 integers, one a stage, got (2, 2)"),
        ({"output_stride": 16}, "output_stride of MixTransformer is 32, got 16"),
        ({"drop_path_rate": 1.0}, "drop_path_rate is at least 0 and less than 1"),
    ],
)
def test_bad_attributes_are_reported_in_one_sentence(options, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}"):
        MixTransformer(**options)
