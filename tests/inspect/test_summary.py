"""The summary of a network: figures of the paper, and the padded form."""

import json
from pathlib import Path

import pytest

from segjax import config
from segjax.inspect.summary import table
from segjax.runs.summary import summarize

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "unet_em.py"


@pytest.fixture(scope="module")
def paper():
    return summarize(config.load(f"{CONFIG}:paper"))


@pytest.fixture(scope="module")
def laptop():
    return summarize(config.load(str(CONFIG)))


def test_it_is_json(paper):
    assert json.loads(json.dumps(paper)) == paper


def test_figures_of_the_paper(paper):
    assert paper["parameters"] == 31_030_658
    assert paper["input_size"] == [572, 572, 1]
    assert paper["output_size"] == [388, 388, 2]
    assert paper["receptive_field"] == {"smallest": 188, "largest": 204}
    assert (paper["stride"], paper["margin"], paper["halo"]) == (16, 92, 0)


def test_rows_are_those_of_figure_1(paper):
    rows = {row["name"]: row for row in paper["layers"]}
    sides = {name: row["output_side"] for name, row in rows.items()}
    assert (sides["down1/conv1"], sides["down1/conv2"], sides["pool1"]) == (
        570,
        568,
        284,
    )
    assert (sides["bottom/conv2"], sides["upsample4"], sides["up1/conv2"]) == (
        28,
        56,
        388,
    )
    assert rows["down1/conv1"]["parameters"] == 640
    assert rows["upsample4"]["operation"] == "transposed conv 2x2, stride 2"
    assert rows["pool1"]["operation"] == "pool 2x2, stride 2"
    assert rows["logits"]["parameters"] == 130
    assert sum(row["parameters"] for row in paper["layers"]) == 31_030_658


def test_cost_is_that_of_the_products(paper):
    """Twice the multiplications of the convolutions, and little more."""
    conv = {1: 9, 2: 9}
    sides = [(570, 1, 64), (568, 64, 64), (282, 64, 128), (280, 128, 128)]
    sides += [(138, 128, 256), (136, 256, 256), (66, 256, 512), (64, 512, 512)]
    sides += [(30, 512, 1024), (28, 1024, 1024), (54, 1024, 512), (52, 512, 512)]
    sides += [(102, 512, 256), (100, 256, 256), (198, 256, 128), (196, 128, 128)]
    sides += [(390, 128, 64), (388, 64, 64)]
    flops = sum(2 * conv[1] * n * n * a * b for n, a, b in sides)
    assert paper["gflops"] == pytest.approx(flops / 1e9, rel=0.05)


def test_legal_sizes_are_legal(paper):
    accepted = paper["accepted_sizes"]
    assert accepted["minimum"] == 188
    assert 572 in accepted["nearest"]
    assert all((n - 60) % 16 == 0 for n in accepted["nearest"])


def test_norms_of_a_network_are_counted_with_it(laptop):
    assert laptop["output_size"] == [*laptop["input_size"][:2], 2]
    assert laptop["halo"] > 0
    assert laptop["margin"] == 0


def test_the_table_says_all_of_it(paper):
    text = table(paper)
    for words in (
        "31,030,658",
        "188 to 204 pixels",
        "572x572x1 -> 388x388x2",
        "bottom",
    ):
        assert words in text
    rows = [line for line in text.splitlines() if "/conv" in line]
    assert len(rows) == 18
    assert len({len(line) for line in rows}) <= 2


def test_channels_are_those_of_the_config():
    colour = config.load(str(CONFIG.with_name("unet_folder.py")))
    grey = summarize(colour)
    colour.data.channels = 3
    found = summarize(colour)
    assert grey["input_size"] == [256, 256, 1]
    assert found["input_size"] == [256, 256, 3]
    assert found["parameters"] == grey["parameters"] + 2 * 9 * 16


def test_a_network_that_finds_objects():
    found = summarize(config.load(str(CONFIG.with_name("mask_rcnn_coco.py"))))
    # torchvision's documentation says 44,401,393, with 91 classes, of which COCO uses 81,
    # and without the factors and offsets of the norms of ResNet-50.
    unused = 10 * (5 * (1024 + 1) + 256 + 1)
    assert found["parameters"] == 44_401_393 - unused + 53_120
    assert found["input_size"] == [800, 1088, 3]
    assert found["output_size"] == [100, 4]
    assert (found["gflops"], found["halo"], found["stride"]) == (None, None, 32)
    text = table({"model": "mask_rcnn", **found})
    assert "800x1088x3 -> 100x4 (height, width, channels, and boxes of objects)" in text
    assert "depends on how many objects there are" in text
