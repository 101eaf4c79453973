"""A CRF behind a network: it sees the stored image, and a config builds the two."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from segjax.data.normalization import NORMALIZATIONS, normalize, stored_scale
from segjax.errors import UserError
from segjax.geometry.fields import Layer
from segjax.geometry.input_sizes import Geometry
from segjax.layers.crf import DenseCRF
from segjax.models import CRFRNN, EncoderDecoder, UNet
from segjax.models.builder import build_model

IMAGE = np.random.default_rng(0).integers(0, 256, (4, 5, 3)).astype(np.uint8)


class Colors(nn.Module):
    """A network without parameters: two channels of the image are the logits."""

    num_classes: int = 2

    def __call__(self, image, *, train):
        return {"logits": image[..., :2], "aux_logits": image[..., 1:]}

    def layers(self):
        return (Layer("colors"),)

    @property
    def geometry(self):
        return Geometry(stride=1)


class Seen(nn.Module):
    """In the place of the CRF: gives back the image that it was shown."""

    num_classes: int = 2

    def __call__(self, logits, image):
        return image


UNDONE = [m for m in NORMALIZATIONS if m not in ("per_image", "percentiles")]


@pytest.mark.parametrize("method", UNDONE)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_kernels_see_the_image_as_it_was_stored(method, dtype) -> None:
    scale, offset = stored_scale(method)
    stored = IMAGE.astype(dtype) * dtype(np.iinfo(dtype).max // 255)
    model = CRFRNN(2, Colors(), Seen(), image_scale=scale, image_offset=offset)
    outputs = model.apply({}, normalize(stored, method)[None], train=False)
    order = slice(None, None, -1) if method.startswith(("caffe", "det", "dil")) else ...
    expected = IMAGE[..., order] if order is not ... else IMAGE
    np.testing.assert_allclose(outputs["logits"][0], expected, atol=1e-3)
    assert outputs["aux_logits"].shape == (1, 4, 5, 2)


def group(**changes):
    plain = {
        "name": "crf_rnn",
        "num_classes": 3,
        "network": {"name": "encoder_decoder", "features": (3,)},
        "crf": {"num_iterations": 2, "method": "exact"},
        **changes,
    }
    return ml_collections.ConfigDict(plain)


def test_a_config_names_network_and_crf_and_their_normalization() -> None:
    model = build_model(group(), normalization="imagenet")
    assert model.network == EncoderDecoder(3, features=(3,))
    assert model.crf == DenseCRF(3, num_iterations=2, method="exact")
    np.testing.assert_allclose(model.image_scale, (58.395, 57.12, 57.375))
    np.testing.assert_allclose(model.image_offset, (123.675, 116.28, 103.53))
    stated = build_model(group(image_scale=(1.0,)), normalization="imagenet")
    assert stated.image_scale == (1.0,)
    more = {"crf": {"num_iterations": 10}}
    assert build_model(group(), more).crf.num_iterations == 10


@pytest.mark.parametrize(
    ("changes", "normalization", "message"),
    [
        ({}, "percentiles", "'percentiles', which cannot be undone"),
        ({}, "per_image", r"config\.pipeline\.normalization is 'per_image', which can"),
        ({"crf": {"w3": 1.0}}, "range", r'config\.model\.crf has an unknown key "w3"'),
        ({"crf": {"w1": "1"}}, "range", r"config\.model\.crf: w1 is a number, got '1'"),
        (
            {"network": {"name": "encoder_decoder", "num_classes": 2}},
            *("range", "network has 2 classes; allowed are those of the whole, 3"),
        ),
        (
            {"network": {"name": "unet", "features": (3, 4), "padding": "VALID"}},
            *("range", "network loses 8 pixels at each border; allowed is one whose"),
        ),
    ],
)
def test_what_does_not_fit_is_one_sentence(changes, normalization, message) -> None:
    with pytest.raises(UserError, match=message):
        build_model(group(**changes), normalization=normalization)


def test_scale_and_channels_are_compared() -> None:
    model = CRFRNN(2, Colors(), Seen(), image_scale=(1.0, 2.0))
    with pytest.raises(
        ValueError, match="image_scale has 2 numbers; allowed are 1 and"
    ):
        model.apply({}, jnp.zeros((1, 4, 5, 3)), train=False)


def test_tiles_are_never_cut_as_each_pixel_sees_all_others() -> None:
    padded = UNet(2, features=(3, 4), padding="SAME")
    model = CRFRNN(2, padded, DenseCRF(2))
    assert padded.geometry.tiles
    assert not model.geometry.tiles
    shapes = jax.eval_shape(
        lambda x: model.init(jax.random.key(0), x, train=False), jnp.zeros((1, 8, 8, 3))
    )
    assert shapes["params"].keys() == {"network", "crf"}
