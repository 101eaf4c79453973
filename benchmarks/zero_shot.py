"""Measures a network of Cityscapes on CamVid, without any training there.

    python benchmarks/zero_shot.py --weights=WEIGHTS.tflite --data=CAMVID \
        --output=benchmarks/results

`WEIGHTS.tflite` is `deeplab_mobilenet_edgetpu_slim_cityscapes_quant.tflite`, `CAMVID` the folder
of SegNet's form. Each of the 233 test images is squeezed to the 513x513 pixels of the graph
(`--input_size=0` leaves it as it is); the class of the highest probability, of 19, becomes one of
11. With `--crf` the values of a CRF are searched for on 20 validation images, and it refines the
probabilities of the 11 classes.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from results import environment, save

from segjax import pretrained
from segjax.data.datasets.camvid import LABEL_SPEC, LISTS, read_list
from segjax.data.datasets.cityscapes import CLASSES
from segjax.data.files.images import read_label, read_page
from segjax.data.normalization import normalize
from segjax.metrics import confusion_counts, semantic_metrics
from segjax.predict.test_time import AveragedPredictor, TestTimeAugmentation
from segjax.tasks.semantic.crf import CRF
from segjax.tasks.semantic.crf_scores import Scene
from segjax.tasks.semantic.crf_search import tune

SOURCE = "tflite/deeplab_mobilenet_edgetpu_cityscapes"

CLASS_OF = {
    "road": "Road",
    "sidewalk": "Pavement",
    "building": "Building",
    "wall": "Building",
    "fence": "Fence",
    "pole": "Pole",
    "traffic light": "SignSymbol",
    "traffic sign": "SignSymbol",
    "vegetation": "Tree",
    "terrain": "Tree",
    "sky": "Sky",
    "person": "Pedestrian",
    "rider": "Bicyclist",
    "car": "Car",
    "truck": "Car",
    "bus": "Car",
    "train": "Car",
    "motorcycle": "Bicyclist",
    "bicycle": "Bicyclist",
}
"""The class of CamVid that a class of Cityscapes is."""

MAPPING = np.array([LABEL_SPEC.names.index(CLASS_OF[name]) for name in CLASSES])

SEARCHED = 20
"""Validation images for the search of the CRF's values."""

MIN_PROBABILITY = 1e-7


def frames(data: Path, split: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """The images of a split with their class ids, 255 where none counts."""
    return [
        (
            read_page(image),
            LABEL_SPEC.to_ids(read_label(label), str(label), remappable=False),
        )
        for image, label in read_list(data / LISTS[split])
    ]


def of_camvid(probabilities: np.ndarray) -> np.ndarray:
    """Adds up the probabilities `[H, W, 19]` of what is one class in CamVid; logarithms."""
    sums = np.zeros((*probabilities.shape[:2], len(LABEL_SPEC.names)), np.float32)
    for theirs, ours in enumerate(MAPPING):
        sums[..., ours] += probabilities[..., theirs]
    return np.log(np.maximum(sums, MIN_PROBABILITY))


class ZeroShot:
    """The network, on images of CamVid."""

    def __init__(self, weights: Path, input_size: tuple[int, int] | None) -> None:
        model, variables = pretrained.load(SOURCE, pretrained.read_state(weights))
        apply = lambda variables, image: model.apply(variables, image, train=False)
        logits = lambda variables, image: apply(variables, image)["logits"]
        self.predictor = AveragedPredictor(
            jax.tree_util.Partial(logits, variables),
            model.geometry,
            TestTimeAugmentation(size=input_size),
        )

    def pages(self, images: list[np.ndarray], output: str) -> Iterator[np.ndarray]:
        normalized = (normalize(image, "tflite") for image in images)
        for page in self.predictor.pages(normalized, (output,)):
            yield page[output]

    def tuned(self, data: Path, folder: Path) -> CRF:
        """The values of a CRF, searched for on the validation split."""
        pairs = frames(data, "validation")
        chosen = pairs[:: len(pairs) // SEARCHED][:SEARCHED]
        pages = self.pages([image for image, _ in chosen], "probabilities")
        scenes = []
        for i, ((image, label), page) in enumerate(zip(chosen, pages, strict=True)):
            scenes.append(Scene(image, label, folder / f"{i}.npy"))
            np.save(scenes[-1].logits, of_camvid(page))
        return tune(scenes, LABEL_SPEC, CRF()).crf


def figures(counts: np.ndarray) -> dict[str, float]:
    found = semantic_metrics(counts, LABEL_SPEC.names)
    return {key: float(value) for key, value in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--input_size", default="513,513")
    parser.add_argument("--crf", action="store_true")
    parser.add_argument("--output")
    options = parser.parse_args()
    sides = tuple(map(int, options.input_size.split(",")))
    size = (sides[0], sides[1]) if len(sides) == 2 else None
    result: dict[str, Any] = environment("cpu")
    network = ZeroShot(options.weights, size)
    pairs = frames(options.data, "test")
    images = [image for image, _ in pairs]
    next(network.pages(images[:1], "labels"))  # compiles
    classes = len(LABEL_SPEC.names)
    total = np.zeros((classes, classes), np.int64)
    began = time.monotonic()
    for (_, label), page in zip(pairs, network.pages(images, "labels"), strict=True):
        found = confusion_counts(label, MAPPING[page], num_classes=classes)
        total += np.asarray(found)
    seconds = time.monotonic() - began
    result |= {
        "source": SOURCE,
        "input_size": size,
        "images": len(pairs),
        "seconds": seconds,
        "images_per_second": len(pairs) / seconds,
        **figures(total),
    }
    if options.crf:
        result["crf"] = refined(network, options.data, pairs)
    print({k: v for k, v in result.items() if not isinstance(v, dict)})
    print(result.get("crf"))
    save("zero_shot" + ("" if size else "_native"), result, options.output)


def refined(
    network: ZeroShot, data: Path, pairs: list[tuple[np.ndarray, np.ndarray]]
) -> dict[str, Any]:
    """The figures with a CRF, its values, and how long both steps took."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        crf = network.tuned(data, Path(folder))
    searched = time.monotonic() - began
    classes = len(LABEL_SPEC.names)
    total = np.zeros((classes, classes), np.int64)
    pages = network.pages([image for image, _ in pairs], "probabilities")
    for (image, label), page in zip(pairs, pages, strict=True):
        labels = crf.page(image, of_camvid(page), ("labels",))["labels"]
        total += np.asarray(confusion_counts(label, labels, num_classes=classes))
    return {
        "values": dataclasses.asdict(crf),
        "search_seconds": searched,
        "seconds": time.monotonic() - began - searched,
        **figures(total),
    }


if __name__ == "__main__":
    main()
