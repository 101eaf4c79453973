"""Blocks that are computed again: less is kept, and the numbers stay."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax import config
from segjax.errors import UserError
from segjax.layers.blocks import block_of, blocks_of
from segjax.layers.norm import Norm
from segjax.layers.remat import with_remat
from segjax.models import EncoderDecoder, SegNet, UNet
from segjax.models.builder import build_model

UNET = UNet(2, features=(4, 8), padding="SAME", norm=Norm(), dropout_rate=0.5)
IMAGE = jnp.asarray(np.random.default_rng(0).normal(size=(2, 16, 16, 1)), jnp.float32)
STATEFUL = {"rngs": {"dropout": jax.random.key(1)}, "mutable": ["batch_stats"]}


def loss_of(model, variables):
    def loss(params):
        given = {**variables, "params": params}
        outputs, updated = model.apply(given, IMAGE, train=True, **STATEFUL)
        return jnp.square(outputs["logits"]).mean(), updated

    return loss


def kept(model):
    """Bytes that the backward pass takes from the forward one; nothing is computed."""
    variables = jax.eval_shape(
        lambda: model.init(jax.random.key(0), IMAGE, train=False)
    )
    backward = lambda v: jax.vjp(loss_of(model, v), v["params"], has_aux=True)[1]
    leaves = jax.tree.leaves(jax.eval_shape(backward, variables))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)


def test_gradients_statistics_and_dropout_are_those_of_the_plain_network():
    again = with_remat(UNET)
    variables, same = (
        jax.jit(functools.partial(model.init, train=False))(jax.random.key(0), IMAGE)
        for model in (UNET, again)
    )
    jax.tree.map(np.testing.assert_array_equal, variables, same)
    grad = lambda model: jax.jit(jax.grad(loss_of(model, variables), has_aux=True))(
        variables["params"]
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        grad(UNET),
        grad(again),
    )


@pytest.mark.parametrize(
    "model",
    [
        UNET,
        SegNet(2, features=(4, 8), depths=(2, 2)),
        EncoderDecoder(2, features=(4, 8)),
    ],
    ids=lambda model: type(model).__name__,
)
def test_less_is_kept_for_the_backward_pass(model):
    assert kept(with_remat(model)) < 0.8 * kept(model)


def test_a_network_that_is_computed_again_is_one_and_the_same():
    again = with_remat(UNET)
    assert isinstance(again, UNet)
    assert again == with_remat(UNET)
    assert hash(again) == hash(with_remat(UNET))
    assert again.geometry == UNET.geometry


def test_every_network_of_a_config_can_be():
    group = config.load("configs/deeplab_v3_voc.py:smoke").model.to_dict()
    model = build_model(group | {"remat": True})
    image = jax.ShapeDtypeStruct((1, 65, 65, 3), jnp.float32)
    variables = jax.eval_shape(
        lambda x: model.init(jax.random.key(0), x, train=False), image
    )
    call = lambda v, x: model.apply(v, x, train=True, **STATEFUL)[0]["logits"].sum()
    text = str(jax.make_jaxpr(call)(variables, image))
    assert text.count("checkpoint[") + text.count("remat") >= 10
    with pytest.raises(UserError, match="remat is 'yes': it is True"):
        build_model(group | {"remat": "yes"})


def test_blocks_come_in_the_order_in_which_an_image_meets_them():
    init = lambda model: lambda: model.init(jax.random.key(0), IMAGE, train=False)
    names = ("down1", "bottom", "upsample1", "up1", "logits")
    assert blocks_of(init(UNET)) == tuple((name,) for name in names)
    segnet = SegNet(2, features=(4,), depths=(2,))
    joined = [(f"conv{name}", f"norm{name}") for name in ("1_1", "1_2", "1_2_D")]
    assert blocks_of(init(segnet)) == (*joined, ("conv1_1_D",))
    assert block_of(("backbone", "stem", "conv", "kernel")) == ("backbone", "stem")
