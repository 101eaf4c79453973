"""The report on an installation."""

from importlib import metadata

import jax
import numpy as np
import pytest

from segjax.runs import doctor


def test_here_nothing_is_wrong() -> None:
    found = doctor.examine()
    assert found.faults == []
    packages = dict(found.rows["packages"])
    assert packages["numpy"] == np.__version__
    assert len(found.rows["devices"]) == jax.local_device_count()
    assert doctor.text_of(found).endswith("Everything that segjax needs is here.")


def test_what_is_missing_or_old_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    version = metadata.version

    def other(name: str) -> str:
        if name == "chex":
            raise metadata.PackageNotFoundError(name)
        return "0.1" if name == "optax" else version(name)

    monkeypatch.setattr(doctor.metadata, "version", other)
    first, second = sorted(doctor.examine().faults)
    assert first.startswith("chex is missing: pip install 'chex")
    assert second.startswith("optax is 0.1, but segjax needs ")


def test_a_device_that_computes_wrong_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.jnp, "matmul", lambda x, y: x @ y * 1.1)
    faults = doctor.examine().faults
    assert len(faults) == jax.local_device_count()
    assert all("computes wrong" in fault for fault in faults)


def test_a_full_disk_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = doctor.shutil.disk_usage(".")._replace(free=10**6)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: usage)
    assert all("make room" in fault for fault in doctor.examine().faults)
