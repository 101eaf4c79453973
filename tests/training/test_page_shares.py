"""A prediction shared out: the files of one process, and one failure for all of them."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tifffile
from PIL import Image

from segjax.data.label_spec import LabelSpec
from segjax.errors import UserError
from segjax.geometry.input_sizes import Geometry
from segjax.objects.separation import Separation
from segjax.predict.tiled import Predictor
from segjax.rle import encode
from segjax.tasks.instance.files import predict_instance_files
from segjax.tasks.semantic.files import predict_files
from segjax.tasks.semantic.object_files import ObjectOptions
from segjax.training import page_shares, sharding
from segjax.training.page_shares import PageShares

SPEC = LabelSpec(("dark", "light"), ((0, 0, 0), (250, 250, 250)))
PAGES = (5, 1, 1)
"""Of the files: not a multiple of any number of processes but one."""


@pytest.fixture
def in_processes(monkeypatch):
    """The function that calls another one in threads, which believe to be processes."""
    here = threading.local()

    def call(count, work):
        barrier, rows = threading.Barrier(count, timeout=60), [None] * count
        results = [None] * count

        def gather(mine):
            rows[here.index] = mine
            barrier.wait()
            everyone = np.concatenate(rows)
            barrier.wait()
            return everyone

        def run(index):
            here.index = index
            try:
                results[index] = work()
            except Exception as error:
                results[index] = error

        with monkeypatch.context() as patch:
            patch.setattr(jax, "process_count", lambda: count)
            patch.setattr(jax, "process_index", lambda: here.index)
            patch.setattr(sharding, "gather", gather)
            threads = [threading.Thread(target=run, args=(i,)) for i in range(count)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        return results

    return call


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    image = lambda *shape: rng.integers(0, 256, shape, np.uint8)
    (tmp_path / "in").mkdir()
    options = {"photometric": "minisblack"}
    tifffile.imwrite(tmp_path / "in/a.tif", image(PAGES[0], 40, 52), **options)
    Image.fromarray(image(33, 70)).save(tmp_path / "in/b.png")
    tifffile.imwrite(tmp_path / "in/c.tif", image(48, 48), **options)
    return tmp_path


def brightness(image):
    grey = image - 0.5
    return jnp.concatenate([-8 * grey, 8 * grey], -1)


def label_pixels(folder, output):
    """Labels with probabilities, objects and overlays: all that can be asked for."""
    tiles = Predictor(brightness, Geometry(stride=16, halo=16), tile=32, batch_size=2)
    return predict_files(
        tiles,
        folder / "in",
        folder / output,
        label_spec=SPEC,
        channels=1,
        normalization="range",
        probabilities=True,
        overlay=True,
        objects=ObjectOptions(Separation(), link=True, outlines=("geojson",)),
    )


def find(image):
    """Finds one object, the bright pixels of the upper half."""
    mask = image[..., 0] > 200
    mask[len(mask) // 2 :] = False
    return {
        "boxes": np.array([[0, 0, *mask.shape]], np.float32),
        "scores": np.array([image.mean() / 255], np.float32),
        "classes": np.array([1]),
        "masks": (encode(mask),),
    }


def find_instances(folder, output):
    return predict_instance_files(
        find,
        folder / "in",
        folder / output,
        label_spec=SPEC,
        channels=1,
        overlay=True,
    )


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("work", [label_pixels, find_instances])
def test_several_processes_write_the_files_of_one(
    folder, in_processes, monkeypatch, work, count
):
    monkeypatch.setattr(page_shares, "_PIECE", 1000)  # most pages travel in several
    alone = work(folder, "alone")
    found = in_processes(count, lambda: work(folder, "shared"))
    written = contents(folder / "shared")
    assert written == contents(folder / "alone")
    assert len(written) > 2 * len(PAGES)
    for paths in found:
        assert [path.name for path in paths] == [path.name for path in alone]


def test_each_page_is_predicted_once(folder, in_processes):
    seen = []

    def noted(image):
        seen.append(threading.get_ident())
        return find(image)

    def work():
        return predict_instance_files(
            noted, folder / "in", folder / "out", label_spec=SPEC, channels=1
        )

    in_processes(3, work)
    counts = sorted(seen.count(one) for one in set(seen))
    assert counts == [2, 2, 3]


@pytest.mark.parametrize("failing", [0, 1])
def test_a_page_that_fails_in_one_process_ends_all(in_processes, failing):
    def work():
        shares = PageShares()

        def mine():
            yield {"page": np.zeros(1)}
            if shares._index == failing:
                raise UserError("a.tif is damaged.")
            yield {"page": np.zeros(1)}

        with shares.together():
            return len(list(shares.collect(mine(), 4)))

    found = in_processes(2, work)
    assert all(isinstance(error, UserError) for error in found)
    assert str(found[failing]) == "a.tif is damaged."
    assert str(found[1 - failing]) == f"Process {failing}: a.tif is damaged."


def test_a_file_that_cannot_be_written_ends_all(in_processes):
    def work():
        shares = PageShares()
        pages = iter([{"page": np.zeros(1)}] * 2)
        with shares.together():
            for _ in shares.collect(pages, 4):
                raise UserError("The disk is full.")

    found = in_processes(2, work)
    assert [str(error) for error in found] == [
        "The disk is full.",
        "Process 0: The disk is full.",
    ]


def test_processes_with_other_images_are_told_so(folder, in_processes):
    places = iter(["in", "in/b.png"])
    lock = threading.Lock()

    def work():
        with lock:
            place = next(places)
        return predict_instance_files(
            find, folder / place, folder / "out", label_spec=SPEC, channels=1
        )

    found = in_processes(2, work)
    assert all("has another list of images than process 0" in str(x) for x in found)
    assert not (folder / "out").exists()
