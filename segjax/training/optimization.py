"""From gradients to the next state: the half of a task that is the same for all of them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import ml_collections
import optax

from segjax import config as config_lib
from segjax import parts
from segjax.data import channels_of
from segjax.data.dataset import Dataset
from segjax.errors import UserError
from segjax.layers.blocks import blocks_of
from segjax.parts import is_outside
from segjax.training.experiment import optimizer_from, schedule_from
from segjax.training.leaves import differing_leaf
from segjax.training.optimizers.ema import EMA
from segjax.training.state import TrainState
from segjax.training.step import (
    Batch,
    Forward,
    Loss,
    Metrics,
    TrainStep,
    forward_image,
    make_train_step,
    state_of,
)

STEPS: dict[str, Callable[..., TrainStep]] = {"supervised": make_train_step}
"""What makes a step of training, by the names of `config.step`."""


class Optimization:
    """Optimizer, moving average and step of an experiment, as its config names them.

    Attributes:
      config: the experiment.
      model: the network.
      forward: the network in training.
    """

    config: ml_collections.ConfigDict
    model: Any
    forward: Forward = staticmethod(forward_image)
    init_variables: Callable[[int], Mapping[str, Any]]
    prepare: Callable[[Dataset], None]
    abstract_batch: Callable[[int, int], dict[str, Any]]

    @property
    def loss(self) -> Loss:
        """What is minimised; each task has its own."""
        raise AttributeError("loss")

    @property
    def step_loss(self) -> Loss:
        """The loss of a batch as a step sees it."""
        return self.loss

    @functools.cached_property
    def schedule(self) -> optax.Schedule:
        """The learning rate by step."""
        return schedule_from(self.config)

    @functools.cached_property
    def optimizer(self) -> optax.GradientTransformation:
        """Optax's transformation of the gradients."""
        init = lambda: self.init_variables(channels_of(self.config.data))
        return optimizer_from(self.config, self.schedule, lambda: blocks_of(init))

    @functools.cached_property
    def ema(self) -> EMA | None:
        """The moving average of the network; None where the config has no group `ema`."""
        group = self.config.get("ema")
        return None if group is None else config_lib.call(EMA, group, "config.ema")

    @functools.cached_property
    def step(self) -> TrainStep:
        """The step that `config.step` names; without it, the supervised one.

        Raises:
          UserError: naming the key of a part that is wrong.
        """
        group = self.config.get("step")
        return config_lib.build(
            STEPS,
            {"name": "supervised"} if group is None else group,
            "config.step",
            model=self.model,
            loss=self.step_loss,
            optimizer=self.optimizer,
            schedule=self.schedule,
            seed=self.config.seed,
            forward=self.forward,
            ema=self.ema,
        )

    def init_state(self, channels: int) -> TrainState:
        """Makes the state before the first step; traceable."""
        return state_of(self.init_variables(channels), self.optimizer, self.ema)

    def restart(self, state: TrainState) -> TrainState:
        """The state at step 0 whose optimizer and average begin with its own parameters.

        Args:
          state: with weights that were not there when its optimizer began.

        Returns:
          Host arrays.
        """
        begin = lambda variables: state_of(variables, self.optimizer, self.ema)
        return jax.device_get(jax.jit(begin)(state.variables))

    def train_step(self, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        """One step, pure."""
        return self.step(state, batch)

    def check_own_step(self, dataset: Dataset) -> None:
        """Checks a step with parts from outside on shapes: it gives what the loop needs.

        Args:
          dataset: the data.

        Raises:
          UserError: saying what it does instead.
        """
        groups = {key: self.config.get(key) or {} for key in ("step", "loss", "model")}
        names = {key: group.get("name") for key, group in groups.items()}
        own = [f"config.{k}.name={x!r}" for k, x in names.items() if is_outside(x)]
        if not own:
            return
        what = f"A step of training with {' and '.join(own)}"
        self.prepare(dataset)
        before = jax.eval_shape(lambda: self.init_state(dataset.channels))
        batch = self.abstract_batch(dataset.channels, self.config.batch_size)
        try:
            after, metrics = jax.eval_shape(self.train_step, before, batch)
            shapes = {key: value.shape for key, value in metrics.items()}
        except UserError:
            raise
        except Exception as error:  # whatever code from outside can raise
            raise UserError(f"{what} fails: {parts.told(error)}.") from error
        form = lambda x: f"{x.dtype} {list(x.shape)}"
        if changed := differing_leaf(before, after, form):
            name, was, now = changed
            raise UserError(
                f"{what} gives another state than it gets ({name} was {was}, then {now}): collections of a "
                'network keep their shapes (what is sown belongs in "intermediates"), and a step '
                "gives what segjax.training.step.apply_gradients gives."
            )
        if "loss" not in shapes or any(shapes.values()):
            raise UserError(
                f"{what} gives the metrics {shapes}: it gives single numbers by name, among "
                "them the loss."
            )
