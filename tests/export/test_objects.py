"""Networks that find objects as programs: what they answer is what `predict` writes."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from segjax.errors import UserError
from segjax.export import loader
from segjax.export.objects import ObjectNetwork, object_function
from segjax.export.stablehlo import lower, write_stablehlo
from segjax.ops.regions.drawing import draw_boxes, draw_masks
from segjax.ops.regions.masks import paste_masks
from segjax.rle import decode
from segjax.tasks.instance.files import InstancePredictor, label_of
from segjax.tasks.instance.masks import label_image

ROOT = Path(__file__).resolve().parents[2]
STORED = np.dtype(np.uint8)


def network(resize: str = "fit", **changes: Any) -> ObjectNetwork:
    tests = runpy.run_path(str(ROOT / "tests" / "models" / "test_mask_rcnn.py"))
    model = tests["SMALL"].clone(**changes)

    def apply(variables: Any, image: Any, sizes: Any) -> Any:
        return model.apply(variables, image, sizes, train=False)

    buckets = ((64, 64), (64, 96))
    return ObjectNetwork(apply, tests["variables"](), 1, buckets, resize, 0.5, 0.6)


def predictor(given: ObjectNetwork) -> InstancePredictor:
    apply = jax.jit(given.apply)
    detect = lambda batch: apply(given.variables, batch["image"], batch["sizes"])
    return InstancePredictor(
        *(detect, 1, given.buckets, given.resize),
        *(given.mask_threshold, given.keep_score),
    )


def picture(*size: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*size, 1), np.uint8)


def test_masks_are_drawn_as_they_are_pasted() -> None:
    rng = np.random.default_rng(0)
    corners = rng.uniform(-5, 60, (20, 2, 2))
    boxes = np.concatenate([corners.min(1), corners.max(1)], 1).astype(np.float32)
    masks = rng.uniform(size=(20, 7, 7)).astype(np.float32)
    for size in ((40, 57), (100, 80)):
        drawn = draw_masks(masks, boxes, np.arange(20) < 15, size, threshold=0.5)
        pasted = paste_masks(masks[:15], boxes[:15], size)
        np.testing.assert_array_equal(drawn, label_image(pasted, size))
        drawn = draw_boxes(boxes, np.arange(20) < 15, size)
        kept = np.clip(boxes[:15], 0, None)
        np.testing.assert_array_equal(drawn, label_of({"boxes": kept}, size))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("resize", "size"), [("fit", (75, 50)), ("shrink", (80, 130)), ("keep", (40, 90))]
)
def test_a_program_finds_what_predict_finds(
    resize: str, size: tuple[int, int], ask: Any, tmp_path: Path
) -> None:
    given = network(resize)
    pixels = object_function(given, size, STORED)
    path = tmp_path / "objects.stablehlo.zip"
    with path.open("wb") as file:
        write_stablehlo(file, pixels, lower(pixels, 1, STORED), {}, "# A card\n")
    image = picture(*size)
    expected = predictor(given)(image)
    count = len(expected["scores"])
    outputs = ("labels", "boxes", "scores", "classes", "masks", "keypoints")
    found = ask(path, image, outputs)
    assert 0 < count < len(found["scores"])
    np.testing.assert_array_equal(found["labels"], label_of(expected, size))
    assert len(np.unique(found["labels"])) > 1
    for name in ("boxes", "scores", "classes", "keypoints"):
        np.testing.assert_allclose(
            found[name][:count], expected[name], rtol=1e-4, atol=1e-4
        )
        assert not found[name][count:].any()
    pasted = paste_masks(found["masks"][:count], found["boxes"][:count], size)
    np.testing.assert_array_equal(pasted, [decode(x) for x in expected["masks"]])
    stack = np.stack([image, image[::-1]])
    both = loader.load(path)(stack)
    np.testing.assert_array_equal(both[0], found["labels"])
    assert (both[1] != both[0]).any()


@pytest.mark.parametrize(
    ("size", "dtype", "message"),
    [
        (None, "uint8", "for images of one size: give --image_size=HEIGHT,WIDTH"),
        ((65, 97), "uint8", r"=65,97 is larger than .* \(64 x 64, 64 x 96\), and a"),
        ((64, 64), "float32", "which float32 does not have: give --dtype=uint8 or"),
    ],
)
def test_what_a_program_of_objects_cannot_do_is_said(
    size: Any, dtype: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        object_function(network("keep"), size, np.dtype(dtype))
