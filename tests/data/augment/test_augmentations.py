import math

import numpy as np
import pytest

from segjax.data.augment import augmentations
from segjax.errors import UserError
from segjax.types import IGNORE_LABEL

SPATIAL = ("flip", "quarter_turn", "elastic_deformation", "rotate_and_scale")
INF, NAN = math.inf, math.nan
GREY = ("brightness_contrast", "gamma", "illumination", "gaussian_noise")
ELSEWHERE = (
    "random_scale",
    "random_rotation",
    "random_crop",
    "color_jitter",
    "gaussian_blur",
    "empty_page",
    "rand_augment",
    "copy_paste",
)
"""In files of their own."""


def position_example(height=64, width=64):
    """An example that knows where each pixel came from.

    The channels of the image are its row and its column, the label is the row, and the
    weight the column.
    """
    rows, columns = np.indices((height, width))
    return {
        "image": np.stack([rows, columns], axis=-1).astype(np.float32),
        "label": rows.astype(np.int32),
        "weight": columns.astype(np.float32),
    }


def run(name, example, seed=0, **arguments):
    return augmentations.AUGMENTATIONS[name](
        example, np.random.default_rng(seed), **arguments
    )


def test_every_augmentation_is_tested_here():
    assert set(augmentations.AUGMENTATIONS) == {*SPATIAL, *GREY, *ELSEWHERE}


@pytest.mark.parametrize("size", [(64, 64), (64, 48)])
@pytest.mark.parametrize("name", SPATIAL)
def test_image_label_and_weight_move_together(name, size):
    example = position_example(*size)
    moved = 0
    for seed in range(8):
        out = run(name, example, seed)
        assert np.abs(out["image"][..., 0] - out["label"]).max() <= 0.5001
        assert np.abs(out["image"][..., 1] - out["weight"]).max() <= 0.5001
        moved += not np.array_equal(out["image"], example["image"])
    assert moved >= 3


@pytest.mark.parametrize("name", [*SPATIAL, *GREY])
def test_shapes_and_dtypes_are_kept_and_the_input_stays_untouched(name):
    example = position_example(32, 40)
    before = {key: x.copy() for key, x in example.items()}
    for x in example.values():
        x.flags.writeable = False
    out = run(name, example, seed=5)
    for key, x in before.items():
        assert out[key].shape == x.shape
        assert out[key].dtype == x.dtype
        np.testing.assert_array_equal(example[key], x)


@pytest.mark.parametrize("name", [*SPATIAL, *GREY])
def test_the_generator_alone_decides(name):
    example = position_example()
    first, again = run(name, example, seed=3), run(name, example, seed=3)
    for key in first:
        np.testing.assert_array_equal(first[key], again[key])
    others = [run(name, example, seed=s)["image"] for s in range(4, 12)]
    assert any(not np.array_equal(first["image"], other) for other in others)


@pytest.mark.parametrize("name", SPATIAL)
def test_no_class_is_invented_and_ignored_pixels_stay_ignored(name):
    example = position_example()
    example["label"] = np.where(example["label"] < 30, 3, IGNORE_LABEL).astype(np.int32)
    for seed in range(5):
        assert set(np.unique(run(name, example, seed)["label"])) == {3, IGNORE_LABEL}


@pytest.mark.parametrize("name", GREY)
def test_grey_value_changes_leave_label_and_weight(name):
    example = position_example()
    always = {"probability": 1} if name == "illumination" else {}
    out = run(name, example, **always)
    assert out["label"] is example["label"]
    assert out["weight"] is example["weight"]
    assert not np.array_equal(out["image"], example["image"])


def test_flip_reaches_its_four_forms_equally_often():
    corners = [
        run("flip", position_example(4, 6), s)["image"][0, 0] for s in range(400)
    ]
    forms, counts = np.unique(corners, axis=0, return_counts=True)
    np.testing.assert_array_equal(forms, [[0, 0], [0, 5], [3, 0], [3, 5]])
    assert counts.min() > 70


def test_quarter_turns_of_a_square_are_four_and_of_a_rectangle_two():
    for size, expected in (((5, 5), 4), ((5, 7), 2)):
        example = position_example(*size)
        outs = {run("quarter_turn", example, s)["label"].tobytes() for s in range(60)}
        assert len(outs) == expected


def test_brightness_and_contrast_move_mean_and_spread_within_their_ranges():
    image = np.random.default_rng(0).random((32, 32, 2), dtype=np.float32)
    shifts, factors = [], []
    for seed in range(200):
        out = run(
            "brightness_contrast",
            {"image": image},
            seed,
            brightness=(-0.2, 0.4),
            contrast=(0.5, 2.0),
        )["image"]
        shifts.append(out.mean() - image.mean())
        factors.append(out.std() / image.std())
    assert -0.2 <= min(shifts) < -0.15
    assert 0.35 < max(shifts) <= 0.4001
    assert 0.499 <= min(factors) < 0.55
    assert 1.8 < max(factors) <= 2.05
    assert 0.9 < np.exp(np.log(factors).mean()) < 1.1


def test_noise_is_as_strong_as_sampled_and_never_stronger_than_stated():
    zeros = {"image": np.zeros((64, 64, 1), np.float32)}
    spread = [
        run("gaussian_noise", zeros, s, std=0.3)["image"].std() for s in range(100)
    ]
    assert max(spread) < 0.31
    assert 0.12 < np.mean(spread) < 0.18


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("elastic_deformation", {"std": 0.0}),
        ("rotate_and_scale", {"angle": (0, 0), "scale": (1, 1)}),
        ("brightness_contrast", {"brightness": (0, 0), "contrast": (1, 1)}),
        ("gaussian_noise", {"std": 0}),
    ],
)
def test_no_displacement_and_no_change_is_the_identity(name, arguments):
    example = position_example(33, 48)
    out = run(name, example, **arguments)
    for key, x in example.items():
        np.testing.assert_array_equal(out[key], x)


def test_a_margin_is_read_but_not_returned():
    example = position_example(60, 50)
    for name, arguments in (
        ("elastic_deformation", {"std": 0.0}),
        ("rotate_and_scale", {"angle": (0, 0), "scale": (1, 1)}),
    ):
        out = run(name, example, margin=7, **arguments)
        np.testing.assert_array_equal(out["image"], example["image"][7:-7, 7:-7])
        np.testing.assert_array_equal(out["label"], example["label"][7:-7, 7:-7])


def test_displacement_at_the_nodes_is_normal_with_the_papers_ten_pixels():
    example = position_example(33 + 120, 33 + 120)
    outs = [run("elastic_deformation", example, s, margin=60) for s in range(300)]
    nodes = np.stack([out["image"][::16, ::16] for out in outs])
    origin = example["image"][60:-60, 60:-60][::16, ::16]
    shifts = nodes - origin
    assert shifts.shape[1:] == (3, 3, 2)
    np.testing.assert_allclose(shifts.std(axis=0), 10, rtol=0.2)
    np.testing.assert_allclose(shifts.std(), 10, rtol=0.04)
    assert np.abs(shifts.mean(axis=0)).max() < 2.5
    pairs = np.corrcoef(shifts.reshape(300, -1).T) - np.eye(18)
    assert np.abs(pairs).max() < 0.3


def test_elastic_deformation_is_smooth():
    out = run("elastic_deformation", position_example(376, 376), 1, margin=60)["image"]
    for axis in (0, 1):
        assert np.abs(np.diff(out, n=2, axis=axis)).max() < 0.1


def test_a_turn_by_ninety_degrees_is_the_quarter_turn():
    example = position_example(31, 31)
    out = run("rotate_and_scale", example, angle=(90, 90), scale=(1, 1))
    np.testing.assert_allclose(out["image"], np.rot90(example["image"]), atol=1e-4)
    np.testing.assert_array_equal(out["label"], np.rot90(example["label"]))


def test_magnification_by_two_shows_the_inner_half():
    out = run("rotate_and_scale", position_example(65, 65), angle=(0, 0), scale=(2, 2))
    np.testing.assert_allclose(out["image"][[0, -1], [0, -1]], [[16, 16], [48, 48]])


@pytest.mark.parametrize("size", [(64, 64), (40, 90)])
def test_margin_of_a_rotation_is_enough_and_not_much_more(size):
    chain = (("rotate_and_scale", {"angle": (-180, 180), "scale": (0.8, 1.0)}),)
    planned, margin = augmentations.with_margins(chain, size)
    half = math.hypot(*size) / 2 / 0.8
    assert margin == math.ceil(half - min(size) / 2)
    assert planned[0][1]["margin"] == margin
    _, none = augmentations.with_margins(
        (("rotate_and_scale", {"angle": (0, 0), "scale": (1, 1)}),), size
    )
    assert none == 0


def test_margins_of_a_chain_add_up_and_the_size_comes_out():
    chain = (
        ("elastic_deformation", {"std": 4.0}),
        ("flip", {}),
        ("rotate_and_scale", {}),
    )
    planned, margin = augmentations.with_margins(chain, (32, 32))
    assert [name for name, _ in planned] == [name for name, _ in chain]
    assert margin == 12 + planned[2][1]["margin"]
    example = position_example(32 + 2 * margin, 32 + 2 * margin)
    out = augmentations.apply(planned, example, np.random.default_rng(0))
    assert out["image"].shape == (32, 32, 2)
    stated = (("elastic_deformation", {"margin": 5}),)
    assert augmentations.with_margins(stated, (32, 32)) == (stated, 5)


def test_apply_is_the_chain_of_its_functions():
    example = position_example()
    chain = (("flip", {}), ("gaussian_noise", {"std": 0.2}), ("quarter_turn", {}))
    out = augmentations.apply(chain, example, np.random.default_rng(9))
    rng = np.random.default_rng(9)
    for name, arguments in chain:
        example = augmentations.AUGMENTATIONS[name](example, rng, **arguments)
    for key, x in example.items():
        np.testing.assert_array_equal(out[key], x)


@pytest.mark.parametrize(
    ("chain", "sentence"),
    [
        ((("elastic", {}),), r'no augmentation .elastic..*"elastic_deformation"'),
        ((("gaussian_noise", {"sdt": 1}),), r"'gaussian_noise'.*'sdt'.*.std.\?"),
        ((("flip", {"axis": 1}),), r"'flip'.*'axis'.*horizontal, vertical"),
        ((("qqqq", {}),), r"'qqqq'.*Known: .*flip, gamma, gaussian_blur"),
        ((([], {}),), r"no augmentation '\[\]'"),
        ("flip", r"sequence of \(name, arguments\).*found 'flip'"),
        (("flip",), r"\(name,\s*arguments\).*found 'flip'"),
        ((("flip", 1),), r"\(name, arguments\).*found \('flip', 1\)"),
    ],
)
def test_unknown_names_and_arguments_are_answered_with_a_suggestion(chain, sentence):
    for refuse in (
        lambda: augmentations.check(chain),
        lambda: augmentations.apply(
            chain, position_example(), np.random.default_rng(0)
        ),
        lambda: augmentations.with_margins(chain, (8, 8)),
    ):
        with pytest.raises(UserError, match=sentence):
            refuse()


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("gaussian_noise", {"std": -1}),
        ("gaussian_noise", {"std": "much"}),
        ("elastic_deformation", {"std": -2}),
        ("elastic_deformation", {"grid": 1}),
        ("elastic_deformation", {"margin": -1}),
        ("brightness_contrast", {"contrast": (0, 1)}),
        ("brightness_contrast", {"brightness": (1, 0)}),
        ("rotate_and_scale", {"scale": (0, 1)}),
        ("rotate_and_scale", {"angle": (3,)}),
        ("rotate_and_scale", {"angle": 3}),
        ("rotate_and_scale", {"angle": (-INF, INF)}),
        ("rotate_and_scale", {"scale": (1, INF)}),
        ("rotate_and_scale", {"scale": (1e-30, 1)}),
        ("rotate_and_scale", {"scale": (NAN, 1)}),
        ("rotate_and_scale", {"margin": 2.5}),
        ("elastic_deformation", {"std": INF}),
        ("elastic_deformation", {"std": NAN}),
        ("elastic_deformation", {"std": 1e39}),
        ("elastic_deformation", {"grid": 3.5}),
        ("elastic_deformation", {"grid": True}),
        ("elastic_deformation", {"margin": INF}),
        ("elastic_deformation", {"margin": 10**6}),
        ("gaussian_noise", {"std": INF}),
        ("gaussian_noise", {"std": NAN}),
        ("brightness_contrast", {"brightness": (0, INF)}),
        ("brightness_contrast", {"brightness": (NAN, 0)}),
        ("brightness_contrast", {"contrast": (0.5, INF)}),
        ("brightness_contrast", {"contrast": ("a", "b")}),
        ("brightness_contrast", {"contrast": "ab"}),
    ],
)
def test_values_that_cannot_work_are_found_before_training(name, arguments):
    (argument,) = arguments
    sentence = rf"config\.pipeline\.augment: '{name}' .* {argument} must be"
    with pytest.raises(UserError, match=sentence):
        augmentations.check(((name, arguments),))


def test_values_that_work_pass_the_check():
    augmentations.check(
        (("elastic_deformation", {"std": 10.0, "margin": 40}), ("flip", {}))
    )
