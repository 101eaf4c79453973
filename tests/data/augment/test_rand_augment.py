"""RandAugment: its operations against Pillow and by hand, and labels that move along."""

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from segjax.data.augment import augmentations, views
from segjax.data.augment import rand_augment as room
from segjax.data.augment.rand_augment import rand_augment, rand_augment_colors
from segjax.data.semantic.batches import train_batches
from segjax.errors import UserError
from segjax.types import IGNORE_LABEL

BYTES = np.random.default_rng(0).integers(20, 200, (24, 20, 3)).astype(np.uint8)
IMAGE = BYTES.astype(np.float32) / 255


def example():
    rows, columns = np.indices((24, 20))
    return {
        "image": np.stack([rows, columns, rows], -1).astype(np.float32) / 255,
        "label": rows.astype(np.int32),
        "weight": 1 + columns.astype(np.float32),
    }


def pillow(name, m):
    picture, factor = Image.fromarray(BYTES), 1 + 0.9 * m
    enhance = {
        "brightness": ImageEnhance.Brightness,
        "contrast": ImageEnhance.Contrast,
        "color": ImageEnhance.Color,
        "sharpness": ImageEnhance.Sharpness,
    }
    if name in enhance:
        changed = enhance[name](picture).enhance(factor)
    elif name == "posterize":
        changed = ImageOps.posterize(picture, 8 - round(4 * abs(m)))
    elif name == "solarize":
        changed = ImageOps.solarize(picture, round(255 * (1 - abs(m))))
    else:
        changed = getattr(ImageOps, name)(picture)
    return np.asarray(changed)


@pytest.mark.parametrize("m", [-0.6, 0.4])
@pytest.mark.parametrize("name", sorted(set(room._COLORS) - {"identity"}))
def test_colours_change_as_those_of_pillow(name, m):
    name = {"autocontrast": "autocontrast", "equalize": "equalize"}.get(name, name)
    ours = room._COLORS[name](IMAGE, m) * 255
    inner = (slice(1, -1), slice(1, -1))  # Pillow leaves the border as it is
    difference = np.abs(ours[inner] - pillow(name, m)[inner].astype(float))
    assert difference.max() <= 2.01


@pytest.mark.parametrize("m", [-0.5, 0.5])
@pytest.mark.parametrize("name", sorted(room._MOVES))
def test_what_moves_pixels_moves_labels_and_weights(name, m):
    found = room._moved(example(), *room._MOVES[name](m))
    seen = found["label"] != IGNORE_LABEL
    assert 0.4 < seen.mean() < 1
    assert (found["weight"][~seen] == 0).all()
    assert (found["image"][~seen] == 0).all()
    image = found["image"][seen] * 255
    assert np.abs(image[:, 0] - found["label"][seen]).max() <= 0.5001
    assert np.abs(image[:, 1] + 1 - found["weight"][seen]).max() <= 0.5001


def test_a_shift_is_a_fraction_of_the_side():
    found = room._moved(example(), *room._MOVES["translate_y"](331 / 150 / 4))
    assert (found["label"][:18, 0] == np.arange(6, 24)).all()
    assert (found["label"][18:] == IGNORE_LABEL).all()


def test_nothing_is_changed_at_magnitude_zero_but_contrast_and_histograms():
    for seed in range(30):
        found = rand_augment(
            example(), np.random.default_rng(seed), num_ops=1, magnitude=0
        )
        assert (found["label"] == example()["label"]).all()


def test_every_operation_comes_up(monkeypatch):
    seen = set()
    for name in room._COLORS:
        monkeypatch.setitem(
            room._COLORS, name, lambda image, m, name=name: seen.add(name) or image
        )
    for name in room._MOVES:
        monkeypatch.setitem(
            room._MOVES,
            name,
            lambda m, name=name: seen.add(name) or (np.eye(2), np.zeros(2)),
        )
    rand_augment(example(), np.random.default_rng(0), num_ops=100)
    assert seen == {*room._COLORS, *room._MOVES}


def test_objects_keep_their_places():
    kept = rand_augment_colors(example(), np.random.default_rng(0), num_ops=20)
    assert (kept["label"] == example()["label"]).all()
    views.check((("rand_augment", {"num_ops": 20, "magnitude": 30}),))


def test_grey_images_of_any_depth_are_accepted():
    augmentations.check((("rand_augment", {"num_ops": 40}),), channels=1)
    with pytest.raises(UserError, match="magnitude"):
        augmentations.check((("rand_augment", {"magnitude": 31}),))


def test_in_a_pipeline_what_comes_from_outside_does_not_count():
    records = [
        {
            "image": np.full((16, 16, 3), 200, np.uint8),
            "label": np.ones((16, 16), np.uint8),
            "name": "a",
        }
    ]
    augment = (("rand_augment", {"num_ops": 3, "magnitude": 30}),)
    with train_batches(
        records,
        seed=0,
        batch_size=8,
        input_size=16,
        output_size=16,
        augment=augment,
        normalization="imagenet",
        num_threads=0,
    ) as batches:
        batch = next(batches)
    outside = batch["label"] == IGNORE_LABEL
    assert 0 < outside.mean() < 0.8
    assert (batch["weight"][outside] == 0).all()
    assert (batch["weight"][~outside] == 1).all()
    assert (batch["image"][outside] == 0).all()
