import itertools

import numpy as np
import pytest

from segjax.data.files.images import normalize
from segjax.data.semantic.batches import (
    record_ids,
    record_names,
    shares_of,
    train_batches,
)
from segjax.data.semantic.weight_map import border_weight, cells_of
from segjax.errors import UserError

EVERYTHING = (
    ("flip", {}),
    ("quarter_turn", {}),
    ("brightness_contrast", {}),
    ("elastic_deformation", {"std": 3.0}),
    ("rotate_and_scale", {"angle": (-20, 20)}),
    ("gaussian_noise", {}),
)


def synthetic_records(count=5, size=(60, 70), channels=1, dtype=np.uint8):
    """Noise, labelled in blocks of ten pixels; every record has its own height."""
    rng = np.random.default_rng(0)
    top = np.iinfo(dtype).max
    records = []
    for i in range(count):
        shape = (size[0] + i, size[1])
        blocks = rng.integers(0, 2, (20, 20), dtype=np.uint8)
        label = np.kron(blocks, np.ones((10, 10), np.uint8))[: shape[0], : shape[1]]
        image = rng.integers(0, top, (*shape, channels), dtype=dtype)
        records.append({"image": image, "label": label, "name": f"section {i}"})
    return records


def take(records, steps, **arguments):
    settings = {
        "seed": 7,
        "batch_size": 4,
        "input_size": 48,
        "output_size": 32,
        "augment": EVERYTHING,
        "border_weight": {"cell_class": 1},
    }
    with train_batches(records, **{**settings, **arguments}) as batches:
        return list(itertools.islice(batches, steps))


def assert_same(left, right):
    for a, b in zip(left, right, strict=True):
        assert a.keys() == b.keys()
        for key in a:
            assert a[key].dtype == b[key].dtype
            np.testing.assert_array_equal(a[key], b[key])


def row_records(length, count=1):
    """Records whose image and label both hold the number of the row."""
    rows = np.tile(np.arange(length, dtype=np.uint8)[:, None], (1, length))
    return [
        {"image": rows[..., None], "label": rows, "name": str(i)} for i in range(count)
    ]


@pytest.mark.parametrize(
    ("dtype", "channels", "input_size", "output_size"),
    [(np.uint8, 1, 48, 32), (np.uint16, 3, (40, 48), (40, 44)), (np.uint8, 2, 16, 16)],
)
def test_batches_have_the_stated_shapes_and_dtypes(
    dtype, channels, input_size, output_size
):
    records = synthetic_records(channels=channels, dtype=dtype)
    (batch,) = take(records, 1, input_size=input_size, output_size=output_size)
    inner = tuple(np.broadcast_to(input_size, 2).tolist())
    answered = tuple(np.broadcast_to(output_size, 2).tolist())
    found = {key: (x.shape, x.dtype) for key, x in batch.items()}
    assert found == {
        "image": ((4, *inner, channels), np.float32),
        "label": ((4, *answered), np.int32),
        "weight": ((4, *answered), np.float32),
        "record": ((4,), np.int32),
    }


@pytest.mark.parametrize("num_threads", [1, 2, 5])
def test_threads_do_not_change_the_stream(num_threads):
    records = synthetic_records()
    plain = take(records, 6, num_threads=0)
    assert_same(plain, take(records, 6, num_threads=num_threads))


@pytest.mark.parametrize("process_count", [2, 4])
def test_processes_together_prepare_the_batch_of_one(process_count):
    records = synthetic_records()
    parts = [
        take(records, 3, process_index=i, process_count=process_count)
        for i in range(process_count)
    ]
    joined = [
        {key: np.concatenate([part[key] for part in step]) for key in step[0]}
        for step in zip(*parts, strict=True)
    ]
    assert_same(take(records, 3), joined)


@pytest.mark.parametrize("start_step", [1, 3])
def test_a_resumed_stream_goes_on_as_if_it_had_never_stopped(start_step):
    records = synthetic_records()
    whole = take(records, 5)
    assert_same(
        whole[start_step:], take(records, 5 - start_step, start_step=start_step)
    )


def test_another_seed_gives_another_order_and_other_examples():
    records = synthetic_records()
    one, other = take(records, 3), take(records, 3, seed=8)
    assert any(
        (a["record"] != b["record"]).any() for a, b in zip(one, other, strict=True)
    )
    assert all(
        (a["image"] != b["image"]).any() for a, b in zip(one, other, strict=True)
    )


def test_every_epoch_holds_each_record_once_in_a_new_order():
    records = synthetic_records(count=6)
    ids = np.concatenate([b["record"] for b in take(records, 15, augment=())])
    epochs = ids.reshape(10, 6)
    np.testing.assert_array_equal(
        np.sort(epochs, axis=1), np.tile(np.arange(6), (10, 1))
    )
    assert len(np.unique(epochs, axis=0)) >= 8


def test_a_record_is_cropped_anew_every_time():
    batches = take(synthetic_records(count=1), 3, augment=(), batch_size=3)
    crops = np.concatenate([b["label"] for b in batches])
    assert len(np.unique(crops, axis=0)) == 9


def test_fewer_records_than_the_batch_are_repeated():
    (batch,) = take(synthetic_records(count=3), 1, batch_size=8)
    assert sorted(batch["record"][:6].tolist()) == [0, 0, 1, 1, 2, 2]


def test_record_ids_of_a_step_are_recomputed_without_the_records():
    records = synthetic_records()
    for step, batch in enumerate(take(records, 4)):
        ids = record_ids(len(records), seed=7, batch_size=4, step=step)
        np.testing.assert_array_equal(ids, batch["record"])
        assert ids.dtype == np.int32


def test_rare_kinds_are_seen_more_often():
    shares = shares_of(["common"] * 9 + ["rare"])
    assert sum(shares) == pytest.approx(10)
    assert 9 * shares[0] == pytest.approx(3 * shares[9])  # as the square roots, 3 to 1
    epochs = [
        record_ids(10, seed=3, batch_size=10, step=i, shares=shares) for i in range(200)
    ]
    seen = np.bincount(np.concatenate(epochs), minlength=10) / 200
    np.testing.assert_allclose(seen, shares, atol=0.12)
    assert all((epoch == 9).sum() in (2, 3) for epoch in epochs)


def test_records_are_named_once_each_in_their_order():
    records = [*synthetic_records(), {"name": b"bytes"}]
    names = record_names(records, np.array([3, 1, 3, 5]))
    assert names == ["section 3", "section 1", "bytes"]


def test_label_is_the_centre_of_what_the_network_sees():
    for batch in take(row_records(90), 5, augment=(), border_weight=None):
        image = np.rint(batch["image"][..., 0] * 255)
        np.testing.assert_array_equal(batch["label"], image[:, 8:-8, 8:-8])


@pytest.mark.parametrize("augment", [(), (("elastic_deformation", {"std": 0.0}),)])
def test_the_answered_part_reaches_every_border_and_never_leaves_the_image(augment):
    records = row_records(40)
    batches = take(records, 40, augment=augment, border_weight=None)
    labels = np.concatenate([b["label"] for b in batches])
    starts = labels[:, 0, 0]
    rows = starts[:, None] + np.arange(32)
    np.testing.assert_array_equal(
        labels, np.broadcast_to(rows[..., None], labels.shape)
    )
    assert set(starts.tolist()) == set(range(9))
    images = np.rint(np.concatenate([b["image"] for b in batches])[..., 0] * 255)
    np.testing.assert_array_equal(images[starts == 0][0, :8, 0], np.arange(8, 0, -1))
    np.testing.assert_array_equal(images[starts == 8][0, -8:, 0], np.arange(38, 30, -1))


def test_an_image_smaller_than_the_crop_is_mirrored_as_often_as_it_takes():
    (batch,) = take(row_records(7), 1, augment=(), border_weight=None)
    rows = np.rint(batch["image"][0, :, 0, 0] * 255)
    assert set(rows.tolist()) == set(range(7))
    np.testing.assert_array_equal(np.abs(np.diff(rows)), 1)
    np.testing.assert_array_equal(batch["label"][0, :, 0], rows[8:-8])
    (dot,) = take(row_records(1), 1)
    assert dot["image"].shape == (4, 48, 48, 1)


@pytest.mark.parametrize("normalization", ["range", "per_image", "percentiles"])
def test_intensities_are_normalised_as_those_of_the_whole_image(normalization):
    records = synthetic_records(count=1, size=(32, 32))
    sizes = {"input_size": 32, "output_size": 32}
    (batch,) = take(records, 1, augment=(), normalization=normalization, **sizes)
    expected = normalize(records[0]["image"], normalization)
    np.testing.assert_array_equal(batch["image"][0], expected)


def test_warps_read_the_surroundings_of_the_crop_instead_of_its_mirror_image():
    rows = np.tile(np.arange(0, 60000, 100, dtype=np.uint16)[:, None], (1, 600))
    record = {"image": rows[..., None], "label": rows // 100 % 2, "name": "ramp"}
    augment = (("elastic_deformation", {"std": 4.0, "grid": 2}),)
    batches = take([record], 5, augment=augment, border_weight=None)
    rows = np.concatenate([b["image"] for b in batches])[..., 0] * 655.35
    inside = (rows > 20) & (rows < 579)  # There the image itself is mirrored.
    steps = np.diff(rows, axis=1)[inside[:, 1:] & inside[:, :-1]]
    assert steps.size > 0.8 * rows.size
    assert (steps > 0).all()


def test_weight_is_one_or_that_of_the_borders_between_cells():
    records = synthetic_records(count=1, size=(32, 32))
    label = records[0]["label"]
    sizes = {"input_size": 32, "output_size": 32, "augment": ()}
    (plain,) = take(records, 1, border_weight=None, **sizes)
    np.testing.assert_array_equal(plain["weight"], 1)
    (batch,) = take(records, 1, border_weight={"cell_class": 0, "w0": 4.0}, **sizes)
    expected = border_weight(cells_of(label, 0), w0=4.0)
    np.testing.assert_array_equal(batch["weight"][0], expected)
    assert expected.max() > 2


def test_records_are_never_written_into():
    records = synthetic_records(count=2)
    for record in records:
        record["image"].flags.writeable = False
        record["label"].flags.writeable = False
    take(records, 2)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"process_count": 3}, "batch_size .*multiple of process_count .*3.*got 4"),
        ({"batch_size": 0}, "batch_size .*got 0"),
        ({"process_index": 2, "process_count": 2}, "process_index .*got 2"),
        ({"output_size": 33}, "even number"),
        ({"output_size": 50}, "input_size must exceed output_size"),
        ({"seed": -1}, "seed .*-1"),
        ({"start_step": -1}, "start_step .*-1"),
        ({"normalization": "zscore"}, "zscore"),
    ],
)
def test_settings_that_do_not_fit_are_refused_at_once(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        take(synthetic_records(), 0, **arguments)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            {"augment": (("flop", {}),)},
            r"config\.pipeline\.augment: .*'flop'.*\"flip\"",
        ),
        ({"augment": (("gaussian_noise", {"std": -1}),)}, "gaussian_noise"),
        (
            {"border_weight": {"sigmo": 1}},
            r"config\.pipeline\.border_weight .*'sigmo'.*\"sigma\"",
        ),
    ],
)
def test_mistakes_of_the_user_are_reported_at_once(arguments, sentence):
    with pytest.raises(UserError, match=sentence):
        take(synthetic_records(), 0, **arguments)


def test_no_records_no_label_and_a_label_of_another_size_are_reported():
    with pytest.raises(UserError, match="no records"):
        take([], 1)
    unlabelled = [{"image": np.zeros((50, 50, 1), np.uint8), "name": "page 3"}]
    for num_threads in (0, 2):
        with pytest.raises(UserError, match="'page 3' has no label"):
            take(unlabelled, 1, num_threads=num_threads)
    shifted = [{**unlabelled[0], "label": np.zeros((50, 49), np.uint8)}]
    with pytest.raises(UserError, match=r"'page 3'.*\(50, 50\).*\(50, 49\)"):
        take(shifted, 1)


def rare_records():
    """A large page with one pixel of foreground, and an ignored one."""
    label = np.zeros((200, 300), np.uint8)
    label[150, 40], label[10, 10] = 1, 255
    image = np.zeros((200, 300, 1), np.uint8)
    return [{"image": image, "label": label, "name": "page"}]


@pytest.mark.parametrize(
    "augment",
    [(), (("random_scale", {"scale": (0.8, 2.0)}), ("random_rotation", {}))],
    ids=["as it is", "scaled and turned"],
)
def test_crops_hold_rare_foreground_as_often_as_is_asked_for(augment):
    arguments = {
        "input_size": 24,
        "output_size": 24,
        "augment": augment,
        "border_weight": None,
    }
    for fraction, least, most in ((0, 0, 12), (0.5, 30, 70), (1, 97, 100)):
        batches = take(rare_records(), 25, foreground_fraction=fraction, **arguments)
        held = sum(int((x == 1).any()) for b in batches for x in b["label"])
        assert least <= held <= most


def test_without_a_fraction_the_stream_is_the_old_one():
    records = synthetic_records(2)
    assert_same(take(records, 2), take(records, 2, foreground_fraction=0.0))


def test_a_page_without_foreground_is_cropped_anywhere():
    records = rare_records()
    records[0]["label"][150, 40] = 0
    (batch,) = take(records, 1, foreground_fraction=1.0, border_weight=None)
    assert batch["label"].shape == (4, 32, 32)
