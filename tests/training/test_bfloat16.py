"""The preset `+bf16`: what is computed in bfloat16, and what stays float32."""

import re
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from segjax import config as config_lib
from segjax.data import channels_of
from segjax.ops.base.forms import lowering_for
from segjax.tasks.table import make_task

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted((ROOT / "configs").glob("*.py"))
HALF, SINGLE = jnp.dtype("bfloat16"), jnp.dtype("float32")


def networks(module):
    """A network and the networks in it; a CRF computes in float32, and what hands logits to it."""
    inner = [getattr(module, name, None) for name in ("network", "backbone")]
    found = [x for part in inner if isinstance(part, nn.Module) for x in networks(part)]
    return found if hasattr(module, "crf") else [module, *found]


@pytest.mark.parametrize("preset", ["bf16", "smoke+bf16"])
@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_builds_in_bfloat16(path, preset):
    model = make_task(config_lib.load(f"{path}:{preset}")).model
    found = networks(model)
    assert found
    assert {jnp.dtype(x.dtype) for x in found} == {HALF}
    assert {jnp.dtype(getattr(x, "param_dtype", SINGLE)) for x in found} == {SINGLE}


@pytest.mark.parametrize("name", ["unet_em", "mask_rcnn_shapes"])
def test_a_step_in_bfloat16_keeps_its_state_and_its_losses_in_float32(name):
    config = config_lib.load(f"{ROOT}/configs/{name}.py:smoke+bf16")
    with config.unlocked():
        config.ema = {"decay": 0.9}
    task = make_task(config)
    channels = channels_of(config.data)
    with lowering_for("tpu"):
        state = jax.eval_shape(lambda: task.init_state(channels))
        batch = task.abstract_batch(channels, config.batch_size)
        traced = jax.jit(task.train_step).trace(state, batch)
    after, metrics = traced.out_info
    for kept in (state, after):
        parts = [kept.params, kept.opt_state, kept.ema]
        parts += [kept.batch_stats] * (
            name == "unet_em"
        )  # the other's norms are of groups
        assert all(jax.tree.leaves(part) for part in parts)
    numbers = jax.tree.leaves((state, after, metrics))
    floats = {x.dtype for x in numbers if jnp.issubdtype(x.dtype, jnp.floating)}
    assert floats == {SINGLE}
    made = r":(\w+)\[[\d,]*\] = conv_general_dilated"
    assert set(re.findall(made, str(traced.jaxpr))) == {"bf16"}
