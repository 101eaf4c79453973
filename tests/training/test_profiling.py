"""Traced steps, and steps that are looked at for NaN."""

import jax
import jax.numpy as jnp
import pytest

from segjax.errors import UserError
from segjax.training.compiled_step import CompiledStep
from segjax.training.profiling import profiled_steps
from segjax.training.sharding import Devices
from segjax.training.state import TrainState


@pytest.mark.parametrize("text", ["", "5", "0:3", "3:0", "-1:2", "1:2:3", "a:b", "1:"])
def test_other_than_step_and_count_is_refused(text):
    with pytest.raises(UserError, match=r"is not STEP:COUNT"):
        profiled_steps(text, 100)


def test_steps_that_the_run_does_not_have_are_refused():
    assert profiled_steps("99:2", 100) == (99, 100)
    with pytest.raises(
        UserError, match=r"ends with step 101, but config\.num_steps is"
    ):
        profiled_steps("99:3", 100)


def test_debug_nans_names_the_operation():
    """A program that was compiled ahead of time would end in an error of JAX's own."""

    def step(state, batch):
        return state.replace(step=state.step + 1), jnp.log(batch["image"]).sum()

    good, bad = {"image": jnp.ones((1, 2, 2, 1))}, {"image": -jnp.ones((1, 2, 2, 1))}
    state = TrainState(jnp.full((), 6, jnp.int32), {}, {}, {})
    compiled = CompiledStep(jax.jit(step), Devices(), state, good)
    with jax.debug_nans(True):
        for _ in range(3):  # JAX itself looks at the first call of a program alone
            assert compiled(state, good)[1] == 0
        with pytest.raises(
            UserError, match=r"Step 7 is not finite: .*\(nan\).* in log"
        ):
            compiled(state, bad)
    assert jnp.isnan(compiled(state, bad)[1])
