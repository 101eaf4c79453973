import itertools

import numpy as np
import pytest
import tifffile

from segjax.data.datasets.folder import folder
from segjax.data.files.zarr import ZarrPages
from segjax.data.normalization import Intensities
from segjax.data.semantic.batches import train_batches

SIZE = 90, 110
TURNED = (
    ("random_scale", {"scale": (0.5, 2.0)}),
    ("random_rotation", {"angle": (-40, 40), "probability": 1.0}),
    ("flip", {}),
)
CONFIGS = {
    "copied": ({}, {}),
    "magnified": ({}, {"augment": (("random_scale", {}), ("quarter_turn", {}))}),
    "turned": ({}, {"augment": TURNED, "normalization": "per_image"}),
    "cropped": ({}, {"augment": (*TURNED, ("random_crop", {}))}),
    "stack": ({}, {"percentiles": {"over": "stack"}}),
    "dataset": (
        {},
        {
            "percentiles": {"over": "dataset"},
            "intensities": Intensities((9.0,), (1.0,), (99.0,)),
        },
    ),
    "foreground": ({}, {"foreground_fraction": 0.7, "augment": TURNED}),
    "border": (
        {"labels": "instances_with_border", "border_width": 3},
        {"border_weight": {}, "augment": TURNED, "foreground_fraction": 0.5},
    ),
    "colors": (
        {"channels": 3},
        {"augment": (("color_jitter", {}), *TURNED), "normalization": "imagenet"},
    ),
}
"""Arguments of `folder`, and of `train_batches`."""


def blocks(rng):
    """Numbers of objects that touch, three pages."""
    values = rng.integers(0, 3, (3, 9, 11)) * np.arange(1, 100).reshape(9, 11)
    return np.kron(values, np.ones((1, 10, 10), int)).astype(np.uint16)


@pytest.fixture
def both(tmp_path, write_zarr):
    """A function that opens the same folder as TIFF and as OME-Zarr."""
    rng = np.random.default_rng(0)
    image, numbers = rng.integers(0, 200, (3, *SIZE)).astype(np.uint8), blocks(rng)

    def both(**arguments):
        by_class = "labels" not in arguments
        label = (numbers > 0).astype(np.uint8) if by_class else numbers
        for part, values in (("images", image), ("labels", label)):
            for kind in ("tif", "zarr"):
                (tmp_path / kind / part).mkdir(parents=True)
            path = tmp_path / "tif" / part / "a.tif"
            tifffile.imwrite(path, values, photometric="minisblack")
            write_zarr(tmp_path / "zarr" / part / "a.zarr", values, "zyx")
        names = ("background", "object", "border")[: 2 if by_class else 3]
        settings = {"classes": [(name, (0, 0, i)) for i, name in enumerate(names)]}
        settings |= {"cache_dir": str(tmp_path), "validation_fraction": 0.0}
        return [
            folder(data_root=str(tmp_path / kind), **settings, **arguments)
            for kind in ("tif", "zarr")
        ]

    return both


def examples(dataset, **arguments):
    settings = {"seed": 3, "batch_size": 3, "input_size": 40, "output_size": 32}
    settings |= {"augment": (), "normalization": "percentiles", "num_threads": 0}
    records = dataset.splits["train"]
    with train_batches(records, **{**settings, **arguments}) as batches:
        return list(itertools.islice(batches, 4))


@pytest.mark.parametrize("name", CONFIGS)
def test_examples_of_windows_are_those_of_whole_pages(both, name):
    of_folder, of_batches = CONFIGS[name]
    pages, windows = (examples(x, **of_batches) for x in both(**of_folder))
    for expected, found in zip(pages, windows, strict=True):
        assert expected.keys() == found.keys()
        for key, values in expected.items():
            assert values.dtype == found[key].dtype
            np.testing.assert_array_equal(values, found[key], err_msg=key)


READS = {
    "each page is measured once": ({}, {"normalization": "percentiles"}, 3),
    "the type says it": ({}, {"normalization": "range"}, 0),
    "the training images say it": ({}, CONFIGS["dataset"][1], 0),
    "weights of windows": (
        {"labels": "instances_with_border", "border_width": 1},
        {"border_weight": {"sigma": 0.5, "limit": 0}, **CONFIGS["dataset"][1]},
        0,
    ),
}


@pytest.mark.parametrize("case", READS)
def test_of_a_zarr_no_more_is_read_than_a_crop_needs(both, monkeypatch, case):
    of_folder, of_batches, whole_pages = READS[case]
    records = both(**of_folder)[1].splits["train"]
    # Cells up to 3 pixels away matter, and a pixel beyond those and beyond borders.
    margin = 2 * (3 + 1 + 1) if "border_weight" in of_batches else 0
    read = []
    of_zarr = ZarrPages.page

    def page(self, index, window=None):
        stored = of_zarr(self, index, window)
        read.append(stored.values.shape)
        return stored

    monkeypatch.setattr(ZarrPages, "page", page)
    settings = {"normalization": "percentiles", "augment": (), **of_batches}
    with train_batches(
        records,
        seed=0,
        batch_size=1,
        input_size=16,
        output_size=16,
        num_threads=0,
        **settings,
    ) as batches:
        for _ in range(6):
            next(batches)
    # The windows have at most one pixel more on either axis than the crops.
    assert read.count(SIZE) == whole_pages
    assert all(max(shape) <= 17 + margin for shape in read if shape != SIZE)
    assert len(read) - whole_pages >= 12


def test_a_record_is_the_same_by_windows_as_whole(both):
    for whole, record in zip(
        *(x.splits["train"] for x in both(labels="instances_with_border")), strict=True
    ):
        assert set(whole) == set(record) == {"image", "name", "stack", "label", "cells"}
        part = record.parts["label"][5:40, :60]
        np.testing.assert_array_equal(part, whole["label"][5:40, :60])
        for key in ("image", "label", "cells"):
            np.testing.assert_array_equal(record[key], whole[key])
            assert record[key].dtype == whole[key].dtype
