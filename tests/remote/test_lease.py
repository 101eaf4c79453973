"""One process at a time in a remote folder, by what stores promise."""

import json

import pytest

from segjax.errors import UserError
from segjax.remote import lease as lease_lib
from segjax.remote.lease import STALE, Lease, TakenError, held


def locks(store):
    return sorted(store.entries(".lock"))


def elsewhere(store, number=1, token="other"):
    row = {"token": token, "renewed": 1, "host": "node7", "place": "x y z", "pid": 1}
    store.write(f".lock/{number}", json.dumps(row).encode())


def test_a_lease_is_there_while_it_is_held(store):
    with held(store):
        assert locks(store) == ["1"]
    assert locks(store) == []


def test_of_two_processes_that_begin_together_one_is_let(store, monkeypatch):
    """Both have seen that nobody is there before either has made its object."""
    monkeypatch.setattr(Lease, "_newest", lambda self: 0)
    Lease(store)
    with pytest.raises(UserError, match="Another process is working in memory://"):
        Lease(store)


def test_who_renews_is_left_alone(store):
    elsewhere(store)
    waits = []

    def sleep(seconds):
        waits.append(seconds)
        elsewhere(store, token=f"other {len(waits)}")

    with pytest.raises(UserError, match="Another process on node7 is working"):
        Lease(store, sleep)
    assert len(waits) == 1
    assert locks(store) == ["1"]


def test_who_does_not_renew_is_followed_after_a_while(store):
    elsewhere(store)
    waits = []
    taken = Lease(store, waits.append)
    assert sum(waits) == STALE
    assert locks(store) == ["2"]
    taken.check()


def test_a_process_of_this_machine_that_was_killed_is_not_waited_for(
    store, monkeypatch
):
    here = lease_lib._this_process()
    if len(here["place"].split()) < 3:
        pytest.skip("this system does not say which machine it is")
    with monkeypatch.context() as patch:
        patch.setattr(lease_lib, "_this_process", lambda: here | {"pid": 2**22 + 1})
        Lease(store)
    waits = []
    Lease(store, waits.append)
    assert waits == []


def test_who_was_followed_learns_of_it_and_removes_nothing(store):
    lost = Lease(store)
    elsewhere(store, 2)
    with pytest.raises(TakenError, match="was taken over by another process"):
        lost.check()
    lost.release()
    assert locks(store) == ["1", "2"]


def test_a_lease_is_renewed_after_some_seconds(store, monkeypatch):
    own = Lease(store)
    before = store.read(".lock/1")
    own.renew()
    assert store.read(".lock/1") == before
    monkeypatch.setattr(lease_lib, "RENEWED", -1)
    own.renew()
    assert store.read(".lock/1") != before
    own.check()
