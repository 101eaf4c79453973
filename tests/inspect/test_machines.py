"""How machines are named, and what is said where one cannot be compiled for."""

import importlib.util

import jax
import pytest

from segjax.errors import UserError
from segjax.inspect import machines
from segjax.inspect.machines import devices_of, read_topology
from segjax.training.throughput import peak_tflops


@pytest.mark.parametrize(
    ("text", "platform", "shape"),
    [
        ("v5e:4x4", "tpu", (4, 4)),
        ("v5e", "tpu", (1, 1)),
        ("v5p:2x2x1", "tpu", (2, 2, 1)),
        ("h100", "cuda", (1,)),
        ("h200x8", "cuda", (8,)),
        ("cpux4", "cpu", (4,)),
    ],
)
def test_machines_are_named_by_kind_and_number(text, platform, shape):
    topology = read_topology(text)
    assert (topology.machine.platform, topology.shape) == (platform, shape)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("v5:4x4", 'no known machine. Did you mean "v5p"'),
        ("v5e:4", r"give, for example, --topology=v5e:2x2"),
        ("v5ex8", r"give, for example, --topology=v5e:2x2"),
        ("h200:8", r"give, for example, --topology=h200x8"),
        ("h200x0", r"give, for example, --topology=h200x8"),
        ("h200x", r"give, for example, --topology=h200x8"),
        ("v5e:", r"give, for example, --topology=v5e:2x2"),
        ("", "no known machine"),
    ],
)
def test_other_words_are_refused(text, sentence):
    with pytest.raises(UserError, match=sentence):
        read_topology(text)


def test_every_accelerator_has_its_figures():
    for machine in machines.MACHINES.values():
        if machine.platform != "cpu":
            assert peak_tflops(machine.kind)
            assert machine.memory
            assert machine.bandwidth


@pytest.mark.parametrize(
    ("text", "extra"), [("v5e:2x2", "plan-tpu"), ("h100x8", "plan-gpu")]
)
def test_a_missing_compiler_is_named_with_its_extra(monkeypatch, text, extra):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=rf"pip install 'segjax\[{extra}\]'"):
        devices_of(read_topology(text))


def test_cpu_devices_are_those_of_this_process():
    devices = devices_of(read_topology("cpux2"))
    assert (devices.count, devices.platform) == (2, "cpu")
    more = jax.device_count() + 1
    with pytest.raises(UserError, match=rf"JAX_NUM_CPU_DEVICES={more}"):
        devices_of(read_topology(f"cpux{more}"))
