"""More categories than a byte holds: trained, measured and predicted, with ids from 0."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segjax import config as config_lib
from segjax.data.datasets.coco.categories import category_specs
from segjax.rle import encode
from segjax.runs.load import load_trained
from segjax.runs.train import train
from segjax.tasks.instance.files import predict_instance_files

CONFIG = Path(__file__).resolve().parents[3] / "configs" / "mask_rcnn_coco.py"
COUNT = 400


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two images, each with an object of a category far beyond 255."""
    root = tmp_path_factory.mktemp("many")
    (root / "images").mkdir()
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for i in range(2):
        pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "images" / f"{i}.png")
        images.append({"id": i, "file_name": f"{i}.png", "height": 32, "width": 32})
        annotations.append(
            {
                "id": i,
                "image_id": i,
                "category_id": COUNT - 1 - i,
                "bbox": [4, 5, 20, 16],
                "segmentation": [[4, 5, 24, 5, 24, 21, 4, 21]],
            }
        )
    categories = [{"id": i, "name": f"kind {i}"} for i in range(COUNT)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "a.json").write_text(json.dumps(content))
    return root


@pytest.mark.slow
def test_400_categories_from_0_on_are_trained_measured_and_predicted(folder, tmp_path):
    config = config_lib.load(f"{CONFIG}:smoke")
    with config.unlocked():
        config.data = {
            "name": "coco",
            "train": "a.json",
            "validation": "a.json",
            "train_images": "images",
            "validation_images": "images",
        }
        config.model.num_classes = COUNT + 1
    workdir = tmp_path / "run"
    metrics = train(config, workdir, None, str(folder)).metrics
    assert np.isfinite(metrics[f"mask_AP/kind {COUNT - 1}"])
    assert np.isnan(metrics["mask_AP/kind 0"])
    trained = load_trained(workdir)
    assert trained.label_spec.names[COUNT] == f"kind {COUNT - 1}"
    assert trained.instance_spec.category_ids == tuple(range(COUNT))


def test_objects_of_the_400th_category_are_written_with_name_and_picture(
    folder, tmp_path
):
    names = tuple(f"kind {i}" for i in range(COUNT))
    spec, objects = category_specs(dict(enumerate(names)), None, raw_ids=False)
    mask = np.zeros((1, 32, 32), bool)
    mask[0, 5:21, 4:24] = True
    found = {
        "boxes": np.array([[5, 4, 21, 24]], np.float32),
        "scores": np.array([0.9], np.float32),
        "classes": np.array([COUNT]),
        "masks": (encode(mask[0]),),
    }
    predict_instance_files(
        lambda _: found,
        folder / "images",
        tmp_path / "out",
        label_spec=spec,
        instances=objects,
        overlay=True,
    )
    rows = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [(r["image_id"], r["category_id"], r["category_name"]) for r in rows] == [
        (0, COUNT - 1, f"kind {COUNT - 1}"),
        (1, COUNT - 1, f"kind {COUNT - 1}"),
    ]
    shown = np.asarray(Image.open(tmp_path / "out" / "0_overlay.png"))
    assert (
        shown[12, 10] != np.asarray(Image.open(folder / "images/0.png"))[12, 10]
    ).any()
