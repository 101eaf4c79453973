"""Scale, rotation and crop: one resampling, the papers' geometry, ignored outside."""

import itertools
import math

import numpy as np
import pytest
from scipy import ndimage

from segjax.data.augment import augmentations
from segjax.data.augment.crops import View, magnified, random_crop
from segjax.data.semantic.batches import train_batches
from segjax.errors import UserError
from segjax.types import IGNORE_LABEL

PHOTOGRAPHS = (
    ("random_scale", {"scale": (0.5, 2.0)}),
    ("random_rotation", {"probability": 1.0}),
    ("random_crop", {}),
    ("flip", {"vertical": False}),
    ("color_jitter", {}),
    ("gaussian_blur", {}),
)


def position_example(height=40, width=50):
    """An example whose pixels say where they came from, in image, label and weight."""
    rows, columns = np.indices((height, width))
    return {
        "image": np.stack([rows, columns], axis=-1).astype(np.float32),
        "label": (rows % 16 * 16 + columns % 16).astype(np.int32) % 255,
        "weight": (1 + rows * 100 + columns).astype(np.float32),
    }


def run(name, example, seed=0, **arguments):
    rng = np.random.default_rng(seed)
    return augmentations.AUGMENTATIONS[name](example, rng, **arguments)


@pytest.mark.parametrize("size", [(80, 100), (20, 25), (60, 75), (33, 47), (1, 1)])
def test_magnification_is_bilinear_between_the_centres_of_pixels(size):
    image = np.random.default_rng(0).random((40, 50, 3), dtype=np.float32)
    out = View((40, 50), size).whole({"image": image})["image"]
    at = [
        (np.arange(n) + 0.5) * m / n - 0.5 for n, m in zip(size, (40, 50), strict=True)
    ]
    grid = np.meshgrid(*at, indexing="ij")
    for channel in range(3):
        expected = ndimage.map_coordinates(
            image[..., channel], grid, order=1, mode="nearest"
        )
        np.testing.assert_allclose(out[..., channel], expected, atol=1e-5)


@pytest.mark.parity
@pytest.mark.parametrize("zoom", [0.5, 0.77, 1.3, 2.0])
def test_magnification_is_that_of_torch(zoom):
    torch = pytest.importorskip("torch")
    image = np.random.default_rng(1).random((37, 29, 3), dtype=np.float32)
    size = magnified((37, 29), zoom)
    out = View((37, 29), size).whole({"image": image})["image"]
    theirs = torch.nn.functional.interpolate(
        torch.from_numpy(image.transpose(2, 0, 1)[None]), size=size, mode="bilinear"
    )
    np.testing.assert_allclose(out, theirs[0].numpy().transpose(1, 2, 0), atol=1e-5)


@pytest.mark.parametrize("angle", [-0.17, 0.05, math.pi / 2, 3.0])
def test_rotation_is_about_the_centre_and_nothing_outside_counts(angle):
    example = position_example()
    out = View((40, 50), (40, 50), angle, mirrored=False).whole(example)
    rows, columns = np.indices((40, 50))
    down, right = rows - 19.5, columns - 24.5
    y = math.cos(angle) * down + math.sin(angle) * right + 19.5
    x = math.cos(angle) * right - math.sin(angle) * down + 24.5
    inside = (abs(y - 19.5) <= 20) & (abs(x - 24.5) <= 25)
    clear = abs(abs(y - 19.5) - 20) + abs(abs(x - 24.5) - 25) > 1e-3
    inner = inside & (abs(y - 19.5) < 19.4) & (abs(x - 24.5) < 24.4)
    np.testing.assert_allclose(
        out["image"][inner], np.stack([y, x], -1)[inner], atol=1e-4
    )
    outside = ~inside & clear
    assert (out["label"][outside] == IGNORE_LABEL).all()
    assert (out["weight"][outside] == 0).all()
    assert (out["image"][outside] == 0).all()
    assert (out["weight"][inside & clear] > 0).all()


@pytest.mark.parametrize("zoom", [0.5, 0.9, 1.6])
@pytest.mark.parametrize("angle", [0.0, 0.1])
def test_image_label_and_weight_stay_together(zoom, angle):
    example = position_example()
    out = View((40, 50), magnified((40, 50), zoom), angle).whole(example)
    rows, columns = np.divmod(out["weight"] - 1, 100)
    label = (rows % 16 * 16 + columns % 16).astype(np.int32) % 255
    counts = out["weight"] > 0
    np.testing.assert_array_equal(out["label"][counts], label[counts])
    assert np.abs(out["image"][..., 0] - rows)[counts].max() <= 0.5001
    assert np.abs(out["image"][..., 1] - columns)[counts].max() <= 0.5001


@pytest.mark.parametrize("mirrored", [True, False])
@pytest.mark.parametrize("angle", [0.0, 0.15])
@pytest.mark.parametrize("zoom", [0.6, 1.0, 1.7])
def test_a_window_is_cut_out_of_the_whole_view(zoom, angle, mirrored):
    example = position_example()
    view = View((40, 50), magnified((40, 50), zoom), angle, mirrored)
    whole = view.whole(example)
    height, width = view.canvas
    rows, columns = np.arange(-5, height - 8), np.arange(7, width + 9)
    part, outside = view.read(example, rows, columns)
    if outside is not None:
        part["image"][outside] = 0
    for key, values in whole.items():
        fill = {"constant_values": IGNORE_LABEL if key == "label" else 0}
        pad = [(5, 0), (0, 9)] + [(0, 0)] * (values.ndim - 2)
        padded = np.pad(values, pad, **({"mode": "reflect"} if mirrored else fill))
        np.testing.assert_allclose(part[key], padded[: height - 3, 7:], atol=1e-5)


@pytest.mark.parametrize("angle", [0.0, 0.15])
@pytest.mark.parametrize("zoom", [0.6, 1.0, 1.7])
def test_a_window_holds_the_bits_of_the_whole_view(zoom, angle):
    rng = np.random.default_rng(0)
    example = {
        "image": rng.random((70, 90, 2), np.float32),
        "label": rng.integers(0, 9, (70, 90)),
    }
    view = View((70, 90), magnified((70, 90), zoom), angle)
    whole, _ = view.read(example, *map(np.arange, view.canvas))
    height, width = view.canvas
    for rows in (np.arange(17, 29), np.array([0]), np.array([height - 1])):
        columns = np.arange(width - 11, width)
        part, _ = view.read(example, rows, columns)
        for key, values in whole.items():
            np.testing.assert_array_equal(part[key], values[np.ix_(rows, columns)])


def test_crops_of_a_smaller_image_are_filled_and_the_image_lies_in_them_whole():
    example = position_example(10, 60)
    tops, lefts = set(), set()
    for seed in range(200):
        out = run("random_crop", example, seed, size=(16, 20))
        assert out["image"].shape == (16, 20, 2)
        counts = out["weight"] > 0
        np.testing.assert_array_equal(counts, out["label"] != IGNORE_LABEL)
        assert counts.any(1).sum() == 10
        assert (out["image"][~counts] == 0).all()
        tops.add(int(counts.any(1).argmax()))
        lefts.add(int(out["image"][counts][0, 1]))
    assert tops == set(range(7))
    assert min(lefts) == 0
    assert max(lefts) == 40


def test_a_crop_without_a_size_is_the_example():
    example = position_example()
    assert random_crop(example, np.random.default_rng(0)) is example


def test_scales_are_uniform_in_their_range_or_one_of_the_steps():
    image = {"image": np.zeros((100, 50, 1), np.float32)}
    sizes = [run("random_scale", image, s)["image"].shape[0] for s in range(300)]
    assert 50 <= min(sizes) < 55
    assert 195 < max(sizes) <= 200
    assert np.mean(sizes) == pytest.approx(125, abs=8)
    steps = {"steps": (0.5, 0.75, 1, 1.25, 1.5)}
    shapes = {run("random_scale", image, s, **steps)["image"].shape for s in range(60)}
    sides = [(50, 25), (75, 38), (100, 50), (125, 62), (150, 75)]
    assert shapes == {(*side, 1) for side in sides}


def test_rotation_happens_as_often_as_stated_and_within_its_range():
    example = position_example()
    turned = [run("random_rotation", example, s) for s in range(200)]
    fraction = np.mean(
        [not np.array_equal(x["image"], example["image"]) for x in turned]
    )
    assert fraction == pytest.approx(0.5, abs=0.12)
    lost = [np.mean(x["weight"] == 0) for x in turned]
    ten = View((40, 50), (40, 50), math.radians(10), mirrored=False).whole(example)
    assert 0 < max(lost) <= np.mean(ten["weight"] == 0) + 0.01


def records_of_sizes(*sizes):
    rng = np.random.default_rng(0)
    return [
        {
            "image": rng.integers(1, 256, (*size, 3), dtype=np.uint8),
            "label": rng.integers(0, 5, size, dtype=np.uint8),
            "name": str(i),
        }
        for i, size in enumerate(sizes)
    ]


def take(records, steps, **arguments):
    settings = {
        "seed": 3,
        "batch_size": 4,
        "input_size": (48, 64),
        "output_size": (48, 64),
        "normalization": "imagenet",
        "augment": PHOTOGRAPHS,
    }
    with train_batches(records, **{**settings, **arguments}) as batches:
        return list(itertools.islice(batches, steps))


def test_images_of_any_size_make_one_batch():
    records = records_of_sizes((20, 30), (100, 40), (48, 64), (61, 203))
    for batch in take(records, 6):
        assert batch["image"].shape == (4, 48, 64, 3)
        assert batch["label"].shape == batch["weight"].shape == (4, 48, 64)
        assert np.isfinite(batch["image"]).all()
        assert set(np.unique(batch["label"])) <= {0, 1, 2, 3, 4, IGNORE_LABEL}
        assert ((batch["weight"] > 0) == (batch["label"] != IGNORE_LABEL)).all()


def test_outside_is_the_mean_colour_after_colours_and_normalisation():
    steps = (("random_crop", {}), ("color_jitter", {}))
    for batch in take(records_of_sizes((20, 30)), 4, augment=steps):
        outside = batch["label"] == IGNORE_LABEL
        assert outside.mean() == pytest.approx(1 - 20 * 30 / (48 * 64), abs=1e-6)
        assert (batch["image"][outside] == 0).all()
        assert (batch["image"][~outside] != 0).mean() > 0.9


def test_without_a_crop_in_the_list_what_is_outside_is_mirrored():
    steps = (("random_scale", {"scale": (0.5, 0.6)}),)
    for batch in take(records_of_sizes((60, 70)), 4, augment=steps):
        assert (batch["label"] != IGNORE_LABEL).all()
        assert (batch["weight"] == 1).all()


def test_scale_and_crop_come_first_wherever_they_are_listed():
    first, last = (
        take(records_of_sizes((60, 70)), 2, augment=steps)
        for steps in (PHOTOGRAPHS, PHOTOGRAPHS[::-1])
    )
    assert not np.array_equal(first[0]["image"], last[0]["image"])  # blur, then flip
    for a, b in zip(first, last, strict=True):
        assert set(np.unique(a["label"])) == set(np.unique(b["label"]))
    short = (PHOTOGRAPHS[0], PHOTOGRAPHS[2], PHOTOGRAPHS[3])
    first, last = (
        take(records_of_sizes((60, 70)), 2, augment=steps)
        for steps in (short, short[::-1])
    )
    for a, b in zip(first, last, strict=True):
        np.testing.assert_array_equal(a["image"], b["image"])


@pytest.mark.parametrize(
    ("steps", "sentence"),
    [
        ((("random_scale", {"scale": (2, 1)}),), "'random_scale' cannot run: scale"),
        ((("random_scale", {"steps": 0.5}),), "'random_scale'.*steps must be a seq"),
        ((("random_scale", {"steps": (0.0,)}),), "'random_scale'.*steps.*0.01"),
        ((("random_rotation", {"probability": 2}),), "'random_rotation'.*probability"),
        (
            (("random_crop", {"size": (8, 8)}),),
            "'random_crop' is config.pipeline.input",
        ),
        ((("random_scale", {}),) * 2, "'random_scale' stands there twice"),
        ((("flip", {"vertical": "no"}),), "'flip'.*vertical must be True or False"),
        ((("color_jitter", {"hue": (0, 1)}),), "'color_jitter'.*hue"),
        ((("gaussian_blur", {"std": (3, 1)}),), "'gaussian_blur'.*std"),
    ],
)
def test_what_cannot_work_is_reported(steps, sentence):
    with pytest.raises(UserError, match=sentence):
        augmentations.check(steps)


def test_colours_of_grey_images_are_refused_before_training():
    records = [{**r, "image": r["image"][..., :1]} for r in records_of_sizes((20, 30))]
    steps = (("color_jitter", {}),)
    with pytest.raises(
        UserError, match=r"'color_jitter'.*must be RGB, it has 1 channel"
    ):
        take(records, 1, augment=steps, normalization="range")
    with pytest.raises(ValueError, match=r"'imagenet' is for RGB images.*have 1"):
        take(records, 1, augment=())
