"""Makes `segformer.npz`: what Hugging Face's SegFormer answers on random weights.

A network of one tiny block a stage. Its tensors by the names that they have in memory, with
their shapes, the names that files have, and a sample of its answer on a small random image, at
the size of the image. Weights and image are sampled again in the tests, from names and shapes
(`tests/pretrained/random_weights.py`).

    python tests/golden/make_segformer.py

PyTorch 2.13.0, transformers 5.24.0, on a CPU.
"""

import json
import runpy
import tempfile
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from transformers import SegformerConfig, SegformerForSemanticSegmentation

TESTS = Path(__file__).resolve().parents[1]
CONFIG = {
    "depths": [1, 1, 1, 1],
    "hidden_sizes": [4, 8, 10, 16],
    "decoder_hidden_size": 12,
    "num_labels": 5,
}
SIZE = (81, 67)
SAMPLES = 256


def text(value):
    return np.frombuffer(json.dumps(value, separators=(",", ":")).encode(), np.uint8)


def saved_names(network):
    with tempfile.TemporaryDirectory() as folder:
        network.save_pretrained(folder)
        with safe_open(Path(folder) / "model.safetensors", "np") as file:
            return sorted(file.keys())


def main():
    random_weights = runpy.run_path(str(TESTS / "pretrained" / "random_weights.py"))
    network = SegformerForSemanticSegmentation(SegformerConfig(**CONFIG)).eval()
    shapes = {key: tuple(x.shape) for key, x in network.state_dict().items()}
    state = random_weights["state_dict"](shapes)
    network.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()})
    image = random_weights["image"](*SIZE)
    with torch.no_grad():
        logits = network(torch.from_numpy(image.transpose(0, 3, 1, 2))).logits
        logits = torch.nn.functional.interpolate(logits, SIZE, mode="bilinear")
    flat = logits.permute(0, 2, 3, 1).numpy().ravel()
    chosen = np.linspace(0, flat.size - 1, SAMPLES).astype(int)
    arrays = {"shapes": text(shapes), "names": text(saved_names(network))}
    arrays["logits"] = flat[chosen]
    np.savez_compressed(Path(__file__).parent / "segformer.npz", **arrays)


if __name__ == "__main__":
    main()
