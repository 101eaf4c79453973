"""The temperature of a run; what it does is tested with `evaluate_run`."""

from types import SimpleNamespace

import pytest

from segjax.errors import UserError
from segjax.runs import tune_temperature
from segjax.tasks.semantic.head import SemanticHead


def test_classes_that_overlap_have_no_temperature(monkeypatch, tmp_path):
    head = SemanticHead("sigmoid", 2)
    task = SimpleNamespace(capabilities={"probabilities"}, head=head)
    trained = SimpleNamespace(task=task)
    monkeypatch.setattr(tune_temperature, "load_trained", lambda *_, **__: trained)
    with pytest.raises(UserError, match="has classes that overlap"):
        tune_temperature.tune_temperature_run(tmp_path)
