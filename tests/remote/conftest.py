"""A store of objects in memory, which has the conditions and the versions of the others."""

import hashlib

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from segjax.remote import address
from segjax.remote.store import Store


class Objects(MemoryFileSystem):
    """Says of each object what changes with its content, as stores do."""

    protocol = "memory"
    cachable = False

    def _with_version(self, info):
        if info["type"] != "file":
            return info
        content = self.store[info["name"]].getvalue()
        return info | {"ETag": hashlib.md5(content).hexdigest()}

    def info(self, path, **options):
        return self._with_version(super().info(path, **options))

    def find(self, path, detail=False, **options):
        names = super().find(path, **options)
        return {name: self.info(name) for name in names} if detail else names


@pytest.fixture
def memory(monkeypatch):
    """The address of an empty folder in memory."""
    monkeypatch.setitem(address.STORES, "memory", "fsspec")
    monkeypatch.setattr(fsspec, "filesystem", lambda *_, **__: Objects())
    Objects.store.clear()
    yield "memory://bucket/run"
    Objects.store.clear()


@pytest.fixture
def store(memory):
    return Store(memory, "--workdir")
