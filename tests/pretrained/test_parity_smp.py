"""Sources of segmentation_models.pytorch beside it, on the same random weights."""

import jax
import numpy as np
import pytest

from segjax import pretrained
from segjax.pretrained import smp, sources

CASES = [
    ("unet-resnet18", {}),
    ("unet-resnet34", {}),
    ("unet-resnet50", {}),
    ("unet-vgg16_bn", {}),
    ("unet-mobilenet_v2", {"encoder_depth": 4, "decoder_channels": (32, 24, 16, 8)}),
    ("fpn-resnet34", {}),
    ("fpn-resnet50", {}),
    ("fpn-vgg11", {}),
    ("pspnet-resnet50", {}),
    ("pspnet-vgg16_bn", {"encoder_depth": 4, "upsampling": 16}),
    ("deeplabv3plus-resnet50", {}),
    ("deeplabv3plus-resnet50", {"encoder_output_stride": 8}),
    ("deeplabv3plus-mobilenet_v2", {"encoder_output_stride": 8}),
]
SIZES = ((96, 160), (160, 32))
TIMES = 10
"""The largest difference, in those between the reference's two precisions."""


def answer(torch, network, tensor):
    with torch.no_grad():
        return network(tensor).permute(0, 2, 3, 1).numpy()


def compare(name, arguments, sizes, smp_network, random_weights):
    torch = pytest.importorskip("torch")
    theirs = smp_network(name, 3, arguments)
    shapes = {key: tuple(x.shape) for key, x in theirs.state_dict().items()}
    state = random_weights.state_dict(shapes)
    theirs.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()})
    source = f"smp/{name}"
    if arguments.keys() == {"encoder_output_stride"}:
        stride = arguments["encoder_output_stride"]
        model, variables = pretrained.load(source, state, output_stride=stride)
    else:
        entry = smp.source(name, arguments)
        model, variables = sources.load_as(entry, source, state)
    # Weights as an argument: as constants they would be folded for minutes.
    apply = jax.jit(lambda v, x: model.apply(v, x, train=False)["logits"])
    for size in sizes:
        image = random_weights.image(*size)
        tensor = torch.from_numpy(image.transpose(0, 3, 1, 2))
        single, double = (
            answer(torch, theirs.to(dtype), tensor.to(dtype))
            for dtype in (torch.float32, torch.float64)
        )
        found = np.asarray(apply(variables, image))
        assert found.shape == single.shape
        assert np.std(single) > 0.05 * np.abs(single).max()
        allowed = TIMES * np.abs(single - double).max()
        difference = np.abs(found - single).max()
        print(f"{name} {arguments} {size}: {difference:.1e} of {allowed:.1e}")
        assert difference < allowed


@pytest.mark.parity
@pytest.mark.parametrize(("name", "arguments"), CASES)
def test_outputs_are_those_of_smp(name, arguments, smp_network, random_weights):
    compare(name, arguments, SIZES, smp_network, random_weights)


@pytest.mark.parity
@pytest.mark.parametrize("name", ["unet-resnet18", "unet-vgg11"])
def test_a_unet_takes_every_size_as_that_of_smp_does(name, smp_network, random_weights):
    compare(name, {}, [(75, 49)], smp_network, random_weights)
