"""Every system has the figures that its paper and its release state."""

import importlib.util
from pathlib import Path

import pytest

from segjax.models import MODELS

ROOT = Path(__file__).resolve().parent.parent
SPEC = importlib.util.spec_from_file_location(
    "make_tables", ROOT / "docs" / "make_tables.py"
)
assert SPEC is not None
assert SPEC.loader is not None
TABLES = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(TABLES)
SYSTEMS = TABLES.published_systems()
UNPUBLISHED = {"crf_rnn", "encoder_decoder", "mask_rcnn"}
"""Models that are nobody's paper, stand around those that are, or find objects: figures
of those are in `tests/models/test_mask_rcnn.py`."""


@pytest.mark.slow
@pytest.mark.parametrize("system", SYSTEMS, ids=lambda row: row["system"])
def test_every_system_has_its_published_figures(system):
    published = {key: system[key] for key in TABLES.FIGURES}
    assert TABLES.measure_system(system) == published
    assert None not in (published["parameters"], published["stride"])


def test_every_model_is_a_system():
    here = {system["model"]["name"] for system in SYSTEMS}
    assert here == MODELS.keys() - UNPUBLISHED


def test_the_page_of_systems_names_each_with_its_parameters():
    page = TABLES.SYSTEMS_PAGE.read_text(encoding="utf-8")
    for system in SYSTEMS:
        assert f"| {system['system']} |" in page
        assert f"| {system['parameters']:,} |" in page
    assert ", here " not in page
