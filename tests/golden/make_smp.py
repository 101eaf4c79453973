"""Makes `smp.npz`: what networks of segmentation_models.pytorch answer on random weights.

Of each the names and shapes of its tensors, and a sample of its answer on a small random
image. Weights and image are sampled again in the tests, from names and shapes
(`tests/pretrained/random_weights.py`), so only the sample is stored.

    python tests/golden/make_smp.py

PyTorch 2.13.0, torchvision 0.28.0, segmentation_models.pytorch 0.6.0, timm 1.0.31, on a CPU.
"""

import json
import runpy
from pathlib import Path

import numpy as np
import torch

TESTS = Path(__file__).resolve().parents[1]
NETWORKS = (
    ("unet-resnet18", {}),
    ("unet-resnet50", {"encoder_depth": 4, "decoder_channels": (64, 48, 32, 16)}),
    ("unet-vgg16_bn", {}),
    ("unet-mobilenet_v2", {}),
    ("fpn-resnet18", {}),
    ("pspnet-resnet18", {}),
    ("pspnet-vgg11", {}),
    ("deeplabv3plus-resnet18", {}),
    ("deeplabv3plus-mobilenet_v2", {"encoder_output_stride": 8}),
)
"""Names of sources, and arguments of SMP's class that are not its defaults."""
CLASSES = 5
SIZE = (64, 96)
SAMPLES = 256


def main():
    runpy.run_path(str(TESTS / "torchvision_reference.py"))["torchvision"]()
    smp_reference = runpy.run_path(str(TESTS / "smp_reference.py"))
    random_weights = runpy.run_path(str(TESTS / "pretrained" / "random_weights.py"))
    image = random_weights["image"](*SIZE)
    arrays = {}
    for name, arguments in NETWORKS:
        network = smp_reference["network"](name, CLASSES, arguments)
        shapes = {key: tuple(x.shape) for key, x in network.state_dict().items()}
        state = random_weights["state_dict"](shapes)
        network.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()})
        with torch.no_grad():
            answer = network(torch.from_numpy(image.transpose(0, 3, 1, 2)))
        flat = answer.permute(0, 2, 3, 1).numpy().ravel()
        chosen = np.linspace(0, flat.size - 1, SAMPLES).astype(int)
        text = json.dumps(shapes, separators=(",", ":"))
        arrays[f"smp/{name} shapes"] = np.frombuffer(text.encode(), np.uint8)
        text = json.dumps(arguments)
        arrays[f"smp/{name} arguments"] = np.frombuffer(text.encode(), np.uint8)
        arrays[f"smp/{name} logits"] = flat[chosen]
    np.savez_compressed(Path(__file__).parent / "smp.npz", **arrays)


if __name__ == "__main__":
    main()
