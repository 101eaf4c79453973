"""Lists of what a config can name."""

import pytest

from segjax import config
from segjax.errors import UserError
from segjax.runs.listing import KINDS, TABLES, described, names
from segjax.shipped_configs import shipped_configs


@pytest.mark.parametrize("kind", KINDS)
def test_everything_has_its_line_and_its_description(kind: str) -> None:
    found = names(kind)
    assert found
    for name, text in found.items():
        assert text
        assert text in " ".join(described(kind, name).split())
    if kind in TABLES:
        assert found.keys() == TABLES[kind].keys()


def test_every_table_has_its_line() -> None:
    assert TABLES.keys() <= KINDS.keys()
    assert sorted(KINDS) == list(KINDS)


def test_models_are_told_by_their_papers() -> None:
    assert names("models")["unet"].startswith("U-Net: a contracting path")
    text = described("models", "unet")
    assert "1505.04597" in text
    assert "dtype='float32', param_dtype='float32')" in text


def test_published_weights_say_where_they_are_and_whose_terms_bind() -> None:
    text = described("sources", "torchvision/fcn_resnet50")
    assert "https://download.pytorch.org/models/fcn_resnet50_coco-1167a1af.pth" in text
    assert "142 MB" in text
    assert "BSD-3-Clause" in text
    assert (
        "35,322,218 parameters; COCO val2017 with VOC's classes: mean IoU 60.5" in text
    )
    assert "segjax import" not in described("sources", "torchvision/resnet50")


def test_unknown_words_are_refused() -> None:
    with pytest.raises(UserError, match='no list of "model"'):
        names("model")
    with pytest.raises(UserError, match='Did you mean "pspnet"'):
        described("models", "pspnt")


def test_experiments_are_found_by_name() -> None:
    assert {"unet_em", "mask_rcnn_coco"} <= shipped_configs().keys()
    assert config.load("unet_em:smoke") == config.load("configs/unet_em.py:smoke")
    with pytest.raises(UserError, match='Did you mean "unet_em"'):
        config.load("unet_en")
