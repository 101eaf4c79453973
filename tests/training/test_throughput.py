"""The clock of steps, on steps of known length; no time passes."""

import threading

import pytest

from segjax.training import throughput
from segjax.training.throughput import StepClock


class Times(threading.local):
    """The time that each thread has."""

    now = 0.0

    def wait(self, result):
        """Waits until a result is ready; results are the times when they are."""
        self.now = max(self.now, result)


@pytest.fixture
def times(monkeypatch):
    made = Times()
    monkeypatch.setattr(throughput, "perf_counter", lambda: made.now)
    monkeypatch.setattr(throughput.jax, "block_until_ready", made.wait)
    return made


@pytest.fixture
def clock(times):
    made = StepClock(images=4, peak=8e-12)
    yield made
    made.close()


def run(times, clock, steps, data, compute):
    """Steps of a device that does one after the other, started before those before are done."""

    def sleep(seconds):
        times.now += seconds

    done = times.now
    for _ in range(steps):
        clock.fetch(lambda: sleep(data))
        done = max(done, times.now) + compute
        clock.add(done, flops=2.0)
    times.wait(done)
    return clock.measure()


@pytest.mark.parametrize(
    ("data", "compute", "fraction"),
    [
        (4.0, 1.0, (4 + 7 * 3) / (8 * 4 + 1)),  # the first step waits for all of it
        (1.0, 4.0, 1 / (1 + 8 * 4)),  # and the others for none
        (0.0, 4.0, 0.0),
        (2.0, 2.0, 2 / 18),
    ],
)
def test_data_is_waited_for_only_while_the_device_has_nothing_to_do(
    times, clock, data, compute, fraction
):
    found = run(times, clock, 8, data, compute)
    assert found["data_wait_fraction"] == pytest.approx(fraction)


def test_what_is_done_besides_is_left_out(times, clock):
    with clock.paused():
        times.now += 100.0
    found = run(times, clock, 5, data=0.0, compute=2.0)
    assert found == pytest.approx(
        {
            "steps_per_second": 0.5,
            "images_per_second": 2.0,
            "data_wait_fraction": 0.0,
            "tflops_per_second": 1e-12,
            "mfu": 0.125,
        }
    )
    again = run(times, clock, 5, data=0.0, compute=1.0)
    assert again["steps_per_second"] == pytest.approx(1.0)


def test_operations_that_the_compiler_does_not_count_are_not_reported(times, clock):
    clock.add(1.0, 0.0)
    times.now = 2.0
    assert not {"tflops_per_second", "mfu"} & clock.measure().keys()
