"""Signals that end a run early: noted, or handed on to JAX where there are many processes."""

import signal

import pytest

from segjax.training import sharding
from segjax.training.stop import PREEMPTING, StopSignal


def test_slurm_and_everybody_else_can_end_a_run():
    assert PREEMPTING == (signal.SIGTERM, signal.SIGUSR1)


@pytest.mark.parametrize("number", PREEMPTING)
def test_a_signal_is_noted_and_its_handler_put_back(number):
    before = signal.getsignal(number)
    with StopSignal() as stop:
        assert not stop.requested
        signal.raise_signal(number)
        assert stop.received == number
        assert stop.at(1)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert signal.getsignal(number) == before


def test_many_processes_leave_sigterm_to_jax_and_hand_sigusr1_on(monkeypatch):
    monkeypatch.setattr(sharding, "process_count", lambda: 2)
    taken = []
    before = signal.signal(signal.SIGTERM, lambda number, _: taken.append(number))
    try:
        with StopSignal() as stop:
            signal.raise_signal(signal.SIGUSR1)
            assert taken == [signal.SIGTERM]
            assert not stop.requested
    finally:
        signal.signal(signal.SIGTERM, before)
