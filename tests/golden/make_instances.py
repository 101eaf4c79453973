"""Makes `instances.npz`: what torchvision's Mask R-CNN finds with random weights.

Of each detector the names and shapes of its tensors; of Mask R-CNN the detections in one
small random image. Weights and image are sampled again in the tests, from names and shapes
(`tests/pretrained/random_weights.py`, `random_instances.py`), so only the answer is stored.

    python tests/golden/make_instances.py

PyTorch 2.13.0, torchvision 0.28.0, on a CPU.
"""

import json
import runpy
from pathlib import Path

import numpy as np
import torch

TESTS = Path(__file__).resolve().parents[1]
DETECTORS = (
    "fasterrcnn_resnet50_fpn",
    "fasterrcnn_resnet50_fpn_v2",
    "keypointrcnn_resnet50_fpn",
    "maskrcnn_resnet50_fpn",
    "maskrcnn_resnet50_fpn_v2",
)
SIZE = (199, 301)
SWAP = [1, 0, 3, 2]
"""torchvision has x before y."""


def shapes_of(network):
    return {key: tuple(x.shape) for key, x in network.state_dict().items()}


def found(network, random_weights, calm):
    """What a detector finds, with the image at its own size."""
    state = calm["calmed"](random_weights["state_dict"](shapes_of(network)))
    network.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()})
    network.transform.min_size, network.transform.max_size = (min(SIZE),), max(SIZE)
    image = calm["image"](*SIZE, random_weights["uniform"])[0]
    with torch.no_grad():
        answer = network.eval()([torch.from_numpy(image.transpose(2, 0, 1))])[0]
    return {
        "boxes": answer["boxes"].numpy()[:, SWAP],
        "scores": answer["scores"].numpy(),
        "classes": answer["labels"].numpy().astype(np.int32),
        "masks": np.packbits(answer["masks"].numpy()[:, 0] >= 0.5),
    }


def main():
    reference = runpy.run_path(str(TESTS / "torchvision_reference.py"))
    detection = reference["torchvision"]().models.detection
    random_weights = runpy.run_path(str(TESTS / "pretrained" / "random_weights.py"))
    calm = runpy.run_path(str(TESTS / "pretrained" / "random_instances.py"))
    arrays = {}
    for name in DETECTORS:
        network = vars(detection)[name](weights=None, weights_backbone=None)
        text = json.dumps(shapes_of(network), separators=(",", ":"))
        key = f"torchvision/{name} shapes"
        arrays[key] = np.frombuffer(text.encode(), np.uint8)
        if name == "maskrcnn_resnet50_fpn":
            arrays |= found(network, random_weights, calm)
    np.savez_compressed(Path(__file__).parent / "instances.npz", **arrays)


if __name__ == "__main__":
    main()
