"""Another data set for a run: its classes have to be of the same kind."""

from types import SimpleNamespace

import ml_collections
import pytest

from segjax.data.label_spec import LabelSpec
from segjax.data.overlapping_classes import OverlappingClasses
from segjax.errors import UserError
from segjax.runs import other_data

CLASSES = ("cell", "nucleus"), ((0, 0, 0), (9, 9, 9))
EXCLUSIVE, OVERLAPPING = LabelSpec(*CLASSES), OverlappingClasses(*CLASSES)


@pytest.mark.parametrize(
    ("known", "given", "sentence"),
    [
        (EXCLUSIVE, OVERLAPPING, "classes that overlap, but those of this run exclude"),
        (OVERLAPPING, EXCLUSIVE, "that exclude each other, but those of this run over"),
        (OVERLAPPING, OVERLAPPING, None),
    ],
)
def test_classes_overlap_in_both_data_sets_or_in_neither(
    monkeypatch, known, given, sentence
):
    dataset = SimpleNamespace(label_spec=given, instances=None, channels=1)
    monkeypatch.setattr(other_data, "open_data", lambda *_: dataset)
    config = ml_collections.ConfigDict({"data": {"name": "mine"}})
    trained = SimpleNamespace(
        task=SimpleNamespace(config=config),
        label_spec=known,
        instance_spec=None,
        channels=1,
    )
    if sentence is None:
        assert other_data.open_other(trained, "folder", None, None) is dataset
        return
    with pytest.raises(UserError, match=sentence):
        other_data.open_other(trained, "folder", None, None)
