"""The rendered EM sections: same on every machine, like the real ones, hard enough."""

from __future__ import annotations

import hashlib
import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from segjax.classical.otsu import otsu_baseline
from segjax.data.datasets.synthetic.em_cells import Diagram
from segjax.data.datasets.synthetic.em_noise import SmoothNoise, blur, generator_of
from segjax.data.datasets.synthetic.em_rendering import Section, render_volume
from segjax.data.datasets.synthetic.em_sections import em_sections
from segjax.data.datasets.synthetic.em_tracks import sample_tracks
from segjax.errors import UserError

TINY = {"size": 64, "train": 3, "validation": 1, "test": 2}


@pytest.fixture(scope="module")
def volume() -> list[Section]:
    return list(render_volume((7,), sections=5, height=256, width=192))


def _digest(arrays: list[np.ndarray]) -> str:
    return hashlib.sha256(b"".join(a.tobytes() for a in arrays)).hexdigest()[:16]


def test_a_volume_has_the_same_bits_on_every_machine() -> None:
    """A rendering that changes needs new values here and a new VERSION of the builder."""
    sections = list(render_volume((1, 2), sections=3, height=96, width=128))
    assert _digest([s.label for s in sections]) == "688ce90a76feacb5"
    assert _digest([s.cells.astype("<u2") for s in sections]) == "e9089bd5bfb2f08f"
    assert _digest([s.image for s in sections]) == "6e7618cd37098637"


def test_another_seed_draws_another_volume() -> None:
    first, second = (
        next(iter(render_volume((s,), sections=1, height=64, width=64))) for s in (0, 1)
    )
    assert (first.label != second.label).mean() > 0.1


def test_shapes_and_types(volume: list[Section]) -> None:
    for section in volume:
        assert section.image.shape == section.label.shape == (256, 192)
        assert section.image.dtype == section.label.dtype == np.uint8
        assert section.cells.dtype == np.uint16


def test_about_a_fifth_is_membrane() -> None:
    fractions = []
    for seed in range(4):
        (section,) = render_volume((seed,), sections=1, height=320, width=320)
        fractions.append((section.label == 0).mean())
    assert 0.17 < np.mean(fractions) < 0.26
    assert max(fractions) < 0.33


def test_membrane_is_where_no_cell_is_and_parts_all_cells(
    volume: list[Section],
) -> None:
    for section in volume:
        np.testing.assert_array_equal(section.cells > 0, section.label == 1)
        for a, b in (
            (section.cells[1:], section.cells[:-1]),
            (section.cells[:, 1:], section.cells[:, :-1]),
        ):
            assert not ((a != b) & (a > 0) & (b > 0)).any()


def test_cells_continue_into_the_next_section_and_move(volume: list[Section]) -> None:
    overlaps = []
    for first, second in itertools.pairwise(volume):
        ids, areas = np.unique(first.cells, return_counts=True)
        for cell in ids[(areas > 300) & (ids > 0)]:
            a, b = first.cells == cell, second.cells == cell
            overlaps.append((a & b).sum() / (a | b).sum())
    assert 0.7 < np.median(overlaps) < 0.99


def test_cells_appear_and_end(volume: list[Section]) -> None:
    first, last = set(np.unique(volume[0].cells)), set(np.unique(volume[-1].cells))
    assert len(first & last) > 10
    assert first - last
    assert last - first


def test_slanted_membranes_are_labelled_wider_and_look_fainter() -> None:
    greys: dict[bool, list[float]] = {True: [], False: []}
    fractions: dict[bool, list[float]] = {True: [], False: []}
    for seed in range(4):
        generator = generator_of(seed)
        tracks = sample_tracks(generator, 1, 256, 256)
        plane = Diagram(generator, tracks, 256, 256).section(0)
        (section,) = render_volume((seed,), sections=1, height=256, width=256)
        near = (plane.distance > 2.5) & (plane.distance < 3.5)
        middle = plane.distance < 0.7
        for slanted, where in ((True, plane.shift > 5), (False, plane.shift < 1)):
            greys[slanted].append(section.image[middle & where].mean())
            fractions[slanted].append((section.label[near & where] == 0).mean())
    assert np.mean(greys[True]) > np.mean(greys[False]) + 5
    assert np.mean(fractions[True]) > 0.5 > 0.2 > np.mean(fractions[False])


def test_grey_levels_are_like_those_of_the_isbi_stack() -> None:
    sections = list(render_volume((11,), sections=4, height=256, width=256))
    image = np.stack([s.image for s in sections]).astype(float)
    label = np.stack([s.label for s in sections])
    assert image.mean() == pytest.approx(126, abs=20)
    assert image.std() == pytest.approx(44, abs=10)
    assert image[label == 0].mean() == pytest.approx(85, abs=15)
    assert image[label == 1].mean() == pytest.approx(138, abs=20)


def test_a_threshold_is_not_enough() -> None:
    for seed in range(3):
        (section,) = render_volume((seed, 9), sections=1, height=320, width=320)
        prediction = otsu_baseline(section.image, sigma=1.0)
        right = [
            ((prediction == k) & (section.label == k)).sum()
            / ((prediction == k) | (section.label == k)).sum()
            for k in (0, 1)
        ]
        assert 0.42 < np.mean(right) < 0.68


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"height": 60}, "height is 60"),
        ({"width": 100}, "width is 100"),
        ({"sections": 0}, "sections is 0"),
    ],
)
def test_illegal_sizes_of_a_volume_are_named(
    arguments: dict[str, int], message: str
) -> None:
    accepted = {"sections": 1, "height": 64, "width": 64}
    with pytest.raises(ValueError, match=message):
        next(iter(render_volume((0,), **(accepted | arguments))))


def test_smooth_noise_has_mean_0_deviation_1_and_is_smooth() -> None:
    noise = SmoothNoise(generator_of(0), (20, 200, 200), spacing=6, depth=2)
    values = np.stack([noise.section(z) for z in range(0, 21, 4)])
    assert values.shape == (6, 200, 200)
    assert abs(values.mean()) < 0.1
    assert values.std() == pytest.approx(1, abs=0.15)
    assert np.abs(np.diff(values, axis=2)).max() < 1.5


def test_blur_keeps_the_sum_of_an_inner_impulse_and_a_constant() -> None:
    plane = np.zeros((9, 11), np.float32)
    plane[4, 5] = 3
    wide = blur(plane, (1.0, 0.5))
    assert wide.sum() == pytest.approx(3)
    assert wide[4, 5] == pytest.approx(3 / 4)
    assert wide[3, 5] == wide[4, 6] == pytest.approx(3 / 8)
    np.testing.assert_allclose(blur(np.ones((5, 6)), (1.0, 0.4, 0.2)), 1, rtol=1e-6)


def test_records_come_in_order_by_name_and_read_only(tmp_path: Path) -> None:
    dataset = em_sections(cache_dir=str(tmp_path), **TINY)
    assert dataset.name == "em_sections"
    assert dataset.channels == 1
    assert dataset.label_spec.names == ("membrane", "cell")
    assert {k: len(v) for k, v in dataset.splits.items()} == {
        "train": 3,
        "validation": 1,
        "test": 2,
    }
    names = [r["name"] for split in dataset.splits.values() for r in split]
    assert names[:4] == ["train/000", "train/001", "train/002", "validation/000"]
    rendered = list(render_volume((0, 2, 0), sections=2, height=64, width=64))
    record = dataset.splits["test"][1]
    np.testing.assert_array_equal(record["image"][..., 0], rendered[1].image)
    np.testing.assert_array_equal(record["label"], rendered[1].label)
    np.testing.assert_array_equal(record["cells"], rendered[1].cells)
    assert not record["image"].flags.writeable


def test_it_is_rendered_once_and_prints_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def written() -> dict[str, int]:
        paths = tmp_path.rglob("*array_record*")
        return {str(path): path.stat().st_mtime_ns for path in paths}

    em_sections(cache_dir=str(tmp_path), **TINY)
    before = written()
    em_sections(cache_dir=str(tmp_path), **TINY)
    assert len(before) == 3
    assert written() == before
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("change", [{"seed": 1}, {"train": 2}, {"size": 72}])
def test_other_arguments_are_another_data_set(
    tmp_path: Path, change: dict[str, int]
) -> None:
    first = em_sections(cache_dir=str(tmp_path), **TINY)
    second = em_sections(cache_dir=str(tmp_path), **(TINY | change))
    assert len(first.splits["train"]) == 3
    assert len(second.splits["train"]) == change.get("train", 3)
    assert second.splits["train"][0]["label"].shape[0] == change.get("size", 64)
    assert (
        len(list((tmp_path / "em_sections").glob("64x64*")))
        + len(list((tmp_path / "em_sections").glob("72x72*")))
        == 2
    )


def test_no_picture_is_in_two_splits(tmp_path: Path) -> None:
    dataset = em_sections(cache_dir=str(tmp_path), **TINY)
    images = [r["image"].tobytes() for s in dataset.splits.values() for r in s]
    assert len(set(images)) == 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 100}, r"config\.data\.size is 100; it must be a multiple of 8"),
        ({"test": 0}, r"config\.data\.test is 0; it must be an integer of at least 1"),
        (
            {"seed": -1},
            r"config\.data\.seed is -1; it must be an integer of at least 0",
        ),
    ],
)
def test_illegal_arguments_end_in_a_sentence(
    tmp_path: Path, change: dict[str, int], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        em_sections(cache_dir=str(tmp_path), **(TINY | change))
    assert not list(tmp_path.iterdir())


def _start(cache_dir: Path, size: int, pause: float = 0) -> subprocess.Popen[bytes]:
    """Starts another process that renders the data set and pauses after each section."""
    code = (
        "import time\n"
        "from segjax.data.datasets.synthetic import em_sections as builder\n"
        "render = builder.render_volume\n"
        "def slowly(*arguments, **options):\n"
        "    for section in render(*arguments, **options):\n"
        "        yield section\n"
        f"        time.sleep({pause})\n"
        "builder.render_volume = slowly\n"
        f"d = builder.em_sections(cache_dir={str(cache_dir)!r}, size={size}, train=12,"
        " validation=1, test=1)\n"
        "print(sum(int(r['label'].sum()) for r in d.splits['train']))\n"
    )
    root = Path(__file__).parents[4]
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=root,
        env=os.environ | {"JAX_PLATFORMS": "cpu", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_two_processes_at_once_read_the_same(tmp_path: Path, patience: float) -> None:
    results = [
        p.communicate(timeout=patience) for p in [_start(tmp_path, 128) for _ in "ab"]
    ]
    assert results[0] == results[1]
    assert int(results[0][0]) > 100_000
    assert not list(tmp_path.rglob("incomplete.*"))


def test_a_killed_preparation_does_no_harm(tmp_path: Path, patience: float) -> None:
    process = _start(tmp_path, 320, pause=60)
    deadline = time.monotonic() + patience
    while not list(tmp_path.rglob("incomplete.*")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert list(tmp_path.rglob("incomplete.*"))
    dataset = em_sections(
        cache_dir=str(tmp_path), size=320, train=12, validation=1, test=1
    )
    assert len(dataset.splits["train"]) == 12
    assert not list(tmp_path.rglob("incomplete.*"))


def test_tilde_in_data_dir_is_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    em_sections(cache_dir="~/prepared", **TINY)
    assert [path.name for path in tmp_path.iterdir()] == ["prepared"]
