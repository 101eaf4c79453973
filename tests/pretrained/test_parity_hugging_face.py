"""SegFormer beside Hugging Face's `transformers`, on the same random weights."""

import copy

import jax
import numpy as np
import pytest

from segjax import pretrained
from segjax.pretrained.hugging_face import DECODER_FEATURES, SIZES

IMAGES = ((65, 97), (96, 64))
ROUNDING = 10
"""So many times the difference between the reference's float32 and float64 is allowed."""


@pytest.mark.parity
@pytest.mark.parametrize("size", ["b0", "b2"])
def test_logits_are_those_of_transformers(size, torchvision, random_weights):
    """The fixture `torchvision` lets `transformers` import it."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    config = transformers.SegformerConfig(
        num_labels=19,
        depths=list(SIZES[size]["blocks"]),
        hidden_sizes=list(SIZES[size]["features"]),
        decoder_hidden_size=DECODER_FEATURES.get(size, 768),
    )
    theirs = transformers.SegformerForSemanticSegmentation(config).eval()
    shapes = {name: tuple(x.shape) for name, x in theirs.state_dict().items()}
    state = random_weights.state_dict(shapes)
    theirs.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()})
    model, variables = pretrained.load(f"hf/segformer-{size}-cityscapes", state)
    apply = jax.jit(lambda v, x: model.apply(v, x, train=False)["logits"])

    def answer(network, image):
        with torch.no_grad():
            logits = network(image).logits
            logits = torch.nn.functional.interpolate(
                logits, image.shape[2:], mode="bilinear", align_corners=False
            )
        return logits.permute(0, 2, 3, 1).numpy()

    for height, width in IMAGES:
        image = random_weights.image(height, width)
        given = torch.from_numpy(image.transpose(0, 3, 1, 2).copy())
        narrow = answer(theirs, given)
        wide = answer(copy.deepcopy(theirs).double(), given.double())
        found = np.asarray(apply(variables, image))
        assert np.std(wide) > 0.05 * np.abs(wide).max()
        rounding, difference = (np.abs(x - wide).max() for x in (narrow, found))
        print(f"{size} {height}x{width}: {difference:.1e}, theirs {rounding:.1e}")
        assert difference < ROUNDING * rounding
