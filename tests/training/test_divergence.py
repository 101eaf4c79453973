"""The range of losses: what is noise, and what is the way to infinity."""

import jax.numpy as jnp
import numpy as np
import pytest

from segjax.training.divergence import LossRange, all_finite, is_in_range


def kept(losses):
    """Of each loss, whether a checkpoint that was saved with it is from before."""
    found = LossRange()
    return [is_in_range(found.add(loss)) for loss in losses]


def test_the_noise_of_a_run_that_learns_stays_in_range():
    """Batches of one image: the losses of a step differ by a factor of three."""
    rng = np.random.default_rng(0)
    falling = 0.7 * 0.99 ** np.arange(300) + 0.05
    assert np.mean(kept(falling * rng.uniform(0.5, 1.5, 300))) > 0.99


@pytest.mark.parametrize("growth", [1.5, 2.0, 10.0])
@pytest.mark.parametrize("steps", [1, 5, 200])
def test_a_loss_on_its_way_to_infinity_is_out_of_range(growth, steps):
    falling = list(0.7 * 0.99 ** np.arange(steps))
    rising = [falling[-1] * growth**i for i in range(1, 30)]
    found = kept(falling + rising)
    assert all(found[:steps])
    assert not any(found[steps + 6 :])


def test_losses_of_checkpoints_that_do_not_state_them_are_unknown():
    assert not is_in_range(None)


def test_the_log_of_a_resumed_run_is_gone_on_from():
    rows = [
        {"step": 1, "split": "train", "loss": 0.5},
        {"step": 1, "split": "validation", "loss": 90.0},
        {"step": 2, "split": "train", "loss": None},
        {"step": 3, "split": "train", "loss": 90.0},
    ]
    assert LossRange.of_log(rows, 2).add(0.4) == {"mean": 0.4, "limit": 1.5}


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_every_kind_of_number_is_looked_at(dtype):
    good = {"a": jnp.zeros(3, dtype), "step": jnp.int32(3)}
    assert all_finite(good)
    assert not all_finite({**good, "b": jnp.asarray([0, np.nan], dtype)})
