"""Makes `pretrained.npz`: what torchvision's networks answer on random weights.

Of each source the names and shapes of its tensors, and a sample of its answer on a small
random image. Weights and image are sampled again in the tests, from names and shapes
(`tests/pretrained/random_weights.py`), so only the sample is stored.

    python tests/golden/make_pretrained.py

PyTorch 2.13.0, torchvision 0.28.0, on a CPU.
"""

import json
import runpy
from pathlib import Path

import numpy as np
import torch

TESTS = Path(__file__).resolve().parents[1]
CLASSIFIERS = (
    "alexnet",
    "googlenet",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "vgg16",
    "vgg16_bn",
)
SEGMENTATIONS = (
    "deeplabv3_mobilenet_v3_large",
    "deeplabv3_resnet50",
    "deeplabv3_resnet101",
    "fcn_resnet50",
    "fcn_resnet101",
    "lraspp_mobilenet_v3_large",
)
SIZE = (81, 67)
SAMPLES = 256


def networks(torchvision):
    for name in CLASSIFIERS:
        options = {"init_weights": False} if name == "googlenet" else {}
        yield name, vars(torchvision.models)[name](weights=None, **options)
    for name in SEGMENTATIONS:
        options = {} if name.startswith("lraspp") else {"aux_loss": True}
        build = vars(torchvision.models.segmentation)[name]
        yield name, build(weights=None, weights_backbone=None, **options)


def main():
    torchvision = runpy.run_path(str(TESTS / "torchvision_reference.py"))
    random_weights = runpy.run_path(str(TESTS / "pretrained" / "random_weights.py"))
    image = random_weights["image"](*SIZE)
    arrays = {}
    for name, network in networks(torchvision["torchvision"]()):
        shapes = {key: tuple(x.shape) for key, x in network.state_dict().items()}
        state = random_weights["state_dict"](shapes)
        network.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()})
        with torch.no_grad():
            answer = network.eval()(torch.from_numpy(image.transpose(0, 3, 1, 2)))
        if isinstance(answer, dict):
            answer = answer["out"].permute(0, 2, 3, 1)
        flat = answer.numpy().ravel()
        chosen = np.linspace(0, flat.size - 1, min(flat.size, SAMPLES)).astype(int)
        arrays[f"torchvision/{name} shapes"] = np.frombuffer(
            json.dumps(shapes, separators=(",", ":")).encode(), np.uint8
        )
        arrays[f"torchvision/{name} logits"] = flat[chosen]
    np.savez_compressed(Path(__file__).parent / "pretrained.npz", **arrays)


if __name__ == "__main__":
    main()
