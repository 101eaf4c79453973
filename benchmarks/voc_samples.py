"""Measures the networks of PASCAL VOC on photographs with labels: samples, not a benchmark of VOC.

    python benchmarks/voc_samples.py --weights=WEIGHTS --voc=VOC --output=benchmarks/results \
        --pictures=runs/voc_samples

`WEIGHTS` is the folder of `deeplabv3_mnv2_pascal_quant.tflite` and its form of half the width, with
the photographs of a bird and a dog and their masks beside them. `VOC` has `JPEGImages` and
`SegmentationClass` of the challenge, the same in `relabelled` (not the labels of the challenge), and
`crops513` of images of the validation split (N_image.png, N_target.png).

Of each image the IoU of the classes that its label has is averaged, then that of the images. The
images are squeezed to the 513x513 pixels of the graph; `--input_size=0` leaves them as they are.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image
from results import environment, save

from segjax import pretrained
from segjax.data.datasets.voc import LABEL_SPEC
from segjax.data.files.images import read_label, read_page
from segjax.data.normalization import normalize
from segjax.metrics import confusion_counts
from segjax.predict.test_time import AveragedPredictor, TestTimeAugmentation
from segjax.types import IGNORE_LABEL

FILES = {
    "tflite/deeplabv3_mnv2_pascal": "deeplabv3_mnv2_pascal_quant.tflite",
    "tflite/deeplabv3_mnv2_dm05_pascal": "deeplabv3_mnv2_dm05_pascal_quant.tflite",
}

BESIDE = {
    "bird": {0: "background", 3: "bird"},
    "dog": {0: "dog", 1: "background"},
}
"""Values of the masks of the photographs; the others are of borders."""

NAMES = LABEL_SPEC.names
Sample = tuple[str, np.ndarray, np.ndarray]


def samples(weights: Path, voc: Path) -> Iterator[Sample]:
    """Names, images and class ids, 255 where a pixel does not count."""
    for folder in (voc, voc / "relabelled"):
        for path in sorted((folder / "SegmentationClass").glob("*.png")):
            image = read_page(folder / "JPEGImages" / f"{path.stem}.jpg")
            yield str(path.relative_to(voc)), image, read_label(path)
    for path in sorted((voc / "crops513").glob("*_target.png")):
        image = read_page(path.with_name(path.name.replace("target", "image")))
        yield str(path.relative_to(voc)), image, read_label(path)
    for name, values in BESIDE.items():
        mask = read_label(weights / f"{name}_segmentation_mask.bmp")
        label = np.full(mask.shape, IGNORE_LABEL, np.uint8)
        for value, of in values.items():
            label[mask == value] = NAMES.index(of)
        yield name, read_page(weights / f"{name}_segmentation.bmp"), label


def iou_of(label: np.ndarray, found: np.ndarray) -> dict[str, float]:
    """The IoU of each class that the label has."""
    counts = np.asarray(confusion_counts(label, found, num_classes=len(NAMES)))
    both, true = np.diag(counts), counts.sum(1)
    union = true + counts.sum(0) - both
    return {NAMES[i]: float(both[i] / union[i]) for i in np.flatnonzero(true)}


def predictor_of(source: str, file: Path, size: tuple[int, int] | None) -> Any:
    model, variables = pretrained.load(source, pretrained.read_state(file))
    apply = lambda variables, x: model.apply(variables, x, train=False)["logits"]
    return AveragedPredictor(
        jax.tree_util.Partial(apply, variables),
        model.geometry,
        TestTimeAugmentation(size=size),
    )


def draw(path: Path, *parts: np.ndarray) -> None:
    """Writes an image and the colours of labels side by side."""
    colors = np.zeros((IGNORE_LABEL + 1, 3), np.uint8)
    colors[: len(NAMES)] = LABEL_SPEC.colors
    colors[IGNORE_LABEL] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    shown = [part if part.ndim == 3 else colors[part] for part in parts]
    Image.fromarray(np.concatenate(shown, axis=1)).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--voc", type=Path, required=True)
    parser.add_argument("--input_size", default="513,513")
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--output")
    options = parser.parse_args()
    sides = tuple(map(int, options.input_size.split(",")))
    size = (sides[0], sides[1]) if len(sides) == 2 else None
    result: dict[str, Any] = environment("cpu") | {"input_size": size}
    pairs = list(samples(options.weights, options.voc))
    for source, file in FILES.items():
        predictor = predictor_of(source, options.weights / file, size)
        images = (normalize(image, "tflite") for _, image, _ in pairs)
        rows: dict[str, Any] = {}
        for (name, image, label), page in zip(
            pairs, predictor.pages(images, ("labels",)), strict=True
        ):
            found = np.asarray(page["labels"])
            iou = iou_of(label, found)
            rows[name] = {"mean": float(np.mean(list(iou.values()))), **iou}
            print(source, name, rows[name])
            if options.pictures:
                stem = name.replace("/", "-").removesuffix(".png")
                folder = options.pictures / source.rpartition("/")[2]
                draw(folder / f"{stem}.png", image, label, found)
        mean = float(np.mean([row["mean"] for row in rows.values()]))
        result[source] = {"mean": mean, "images": rows}
        print(source, mean)
    save("voc_samples" + ("" if size else "_native"), result, options.output)


if __name__ == "__main__":
    main()
