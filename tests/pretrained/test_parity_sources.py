"""Every source beside torchvision itself, on the same random weights."""

import jax
import numpy as np
import pytest

from segjax import pretrained

SIZES = ((129, 97), (256, 320))
TOLERANCE = 1e-4
"""The largest difference, as a fraction of the largest value."""

TORCHVISION = sorted(
    name
    for name, source in pretrained.SOURCES.items()
    if name.startswith("torchvision/") and source.group["name"] != "mask_rcnn"
)
"""Those of objects have tests of their own, `test_instances.py`."""


def reference(torchvision, source):
    """torchvision's model, untrained, with an auxiliary head where it can have one."""
    name = source.partition("/")[2]
    options = {"weights": None, "weights_backbone": None}
    if name in vars(torchvision.models):
        options = {"weights": None}
        if name == "googlenet":
            options["init_weights"] = False
        return vars(torchvision.models)[name](**options).eval()
    if name != "lraspp_mobilenet_v3_large":
        options["aux_loss"] = True
    return vars(torchvision.models.segmentation)[name](**options).eval()


@pytest.mark.parity
@pytest.mark.parametrize("source", TORCHVISION)
def test_outputs_are_those_of_torchvision(source, torchvision, random_weights):
    torch = pytest.importorskip("torch")
    theirs = reference(torchvision, source)
    shapes = {name: tuple(x.shape) for name, x in theirs.state_dict().items()}
    state = random_weights.state_dict(shapes)
    theirs.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()})
    model, variables = pretrained.load(source, state)
    # Weights as an argument: as constants they would be folded for minutes.
    apply = jax.jit(lambda v, x: model.apply(v, x, train=False)["logits"])
    for size in SIZES:
        image = random_weights.image(*size)
        with torch.no_grad():
            expected = theirs(torch.from_numpy(image.transpose(0, 3, 1, 2)))
        if isinstance(expected, dict):
            expected = expected["out"].permute(0, 2, 3, 1)
        expected = expected.numpy()
        found = np.asarray(apply(variables, image))
        assert found.shape == expected.shape
        assert np.std(expected) > 0.05 * np.abs(expected).max()
        difference = np.abs(found - expected).max() / np.abs(expected).max()
        print(f"{source} {size}: {difference:.1e}")
        assert difference < TOLERANCE
