"""Images one by one: what each measured, and what its pictures say."""

import numpy as np

from segjax.data.label_spec import LabelSpec
from segjax.data.normalization import Percentiles
from segjax.tasks.semantic.image_rows import measure_images, panels_of
from segjax.viz.pictures import MISSED

SPEC = LabelSpec(("membrane", "cell"), ((0, 0, 0), (255, 255, 255)))


class Cells:
    """A network that finds cells everywhere."""

    def pages(self, images, outputs):
        assert outputs == ("labels",)
        for image in images:
            yield {"labels": np.ones(image.shape[:2], np.uint8)}


def test_rows_are_those_of_each_image_alone():
    image = np.full((4, 4, 1), 7, np.uint8)
    half, ignored = np.ones((4, 4), np.uint8), np.full((4, 4), 255, np.uint8)
    half[:2] = 0
    labels = {"right": np.ones((4, 4), np.uint8), "half": half, "ignored": ignored}
    records = [{"name": k, "image": image, "label": v} for k, v in labels.items()]
    found = measure_images(
        *(Cells(), records, range(3), SPEC), normalization="range", with_panels=1
    )
    assert [row.name for row in found.rows] == ["half", "right", "ignored"]
    worst, best, unknown = found.rows
    assert worst.metrics["mean_iou"] == 0.25
    assert worst.metrics["iou/membrane"] == 0
    assert worst.metrics["pixel_error"] == 0.5
    assert best.metrics["mean_iou"] == 1
    assert np.isnan(unknown.metrics["mean_iou"])
    captions = [panel.caption for panel in worst.panels]
    assert captions[:3] == ["image", "label", "prediction"]
    assert captions[3] == (
        "error: 50.0% of the pixels; blue: membrane missed; orange: membrane invented"
    )
    assert (worst.panels[3].pixels[:2] == MISSED).all()
    assert best.panels == ()


def test_pages_are_scaled_as_their_stack():
    label, seen = np.ones((4, 4), np.uint8), []

    class Seeing(Cells):
        def pages(self, images, outputs):
            images = list(images)
            seen.extend(images)
            return super().pages(images, outputs)

    records = [
        {"image": label[..., None] * x, "label": label, "name": "a", "stack": "a.tif"}
        for x in (0, 50, 100)
    ]
    measure_images(
        *(Seeing(), records, [1], SPEC),
        normalization=Percentiles(low=0, high=100, over="stack"),
        with_panels=0,
    )
    np.testing.assert_allclose(seen, np.full((1, 4, 4, 1), 0.5))


def test_panels_of_large_images_are_small():
    label = np.zeros((3000, 20), np.uint8)
    panels = panels_of(label[..., None], label, label, SPEC)
    assert {panel.pixels.shape for panel in panels} == {(750, 5, 3)}
