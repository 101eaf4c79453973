"""SegFormer: the paper's sizes, its decoder beside the paper's formula, its geometry."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.backbones.mix_transformer import MixTransformer
from segjax.models import SegFormer
from segjax.models.segformer import Fuse
from segjax.ops.resizing.resize import resize_bilinear

WIDE = (64, 128, 320, 512)


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    ("features", "blocks", "decoder", "expected"),
    [
        ((32, 64, 160, 256), (2, 2, 2, 2), 256, 3_752_694),
        (WIDE, (3, 4, 6, 3), 768, 27_461_974),
        (WIDE, (3, 6, 40, 3), 768, 84_708_694),
    ],
)
def test_parameter_counts_are_those_of_the_paper(features, blocks, decoder, expected):
    """Table 1 has 3.8, 27.5 and 84.7 million."""
    model = SegFormer(150, MixTransformer(features=features, blocks=blocks), decoder)
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    init = lambda x: model.init(jax.random.key(0), x, train=False)
    params = jax.eval_shape(init, image)["params"]
    assert sum(x.size for x in jax.tree.leaves(params)) == expected


def test_maps_are_fused_as_if_they_were_resized_and_concatenated_first():
    rng = np.random.default_rng(0)
    sides = ((1, 2), (2, 3), (4, 5))
    maps = [jnp.asarray(rng.normal(size=(2, *x, 3)), jnp.float32) for x in sides]
    fuse = Fuse(4)
    variables = fuse.init(jax.random.key(0), tuple(maps))
    found = fuse.apply(variables, tuple(maps))
    whole = jnp.concatenate([resize_bilinear(x, size=(4, 5)) for x in maps], -1)
    expected = np.einsum("bhwc,cf->bhwf", whole, variables["params"]["kernel"][0, 0])
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_every_side_from_a_minimum_on_is_taken_whole():
    geometry = SegFormer(19, MixTransformer()).geometry
    assert not geometry.tiles
    assert geometry.accepted(29)
    assert geometry.accepted(500)
    assert geometry.next_accepted(20) == 29


def test_a_backbone_without_the_four_maps_is_refused():
    class Blind(MixTransformer):
        def layers(self, stage="stage5"):
            raise ValueError("stage is none")

    with pytest.raises(ValueError, match="backbone names no map of the backbone"):
        SegFormer(2, Blind())
