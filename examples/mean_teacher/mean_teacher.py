"""Mean teacher (Tarvainen, Valpola 2017, arXiv 1703.01780): a step of training."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from segjax.training.optimizers.optim import global_norm
from segjax.training.step import apply_gradients, with_parts


def mean_teacher(
    model, loss, optimizer, schedule, seed, forward, ema, *, weight, ramp_steps, noise
):
    """Makes the step.

    Args:
      model: the network, as all up to `ema`, is what `segjax.training.step.make_train_step` gets.
      loss: of labelled images.
      optimizer: of the student.
      schedule: its learning rate.
      seed: of all that is random.
      forward: the network in training.
      ema: the moving average of the student, which is the teacher.
      weight: of the consistency with the teacher, once it has grown to that.
      ramp_steps: steps in which it grows, as `exp(-5 (1 - step / ramp_steps)^2)`.
      noise: standard deviation of what is added to images, another for student and teacher.

    Returns:
      The function from state and batch to the next state and metrics.
    """
    if ema is None:
        raise ValueError(
            "the teacher is config.ema, which is not set: set dict(decay=0.99)"
        )

    def look(variables, image, key):
        """Outputs of the network for noisy images, and the collections that it changed."""
        for_noise, for_network = jax.random.split(key)
        image = image + noise * jax.random.normal(for_noise, image.shape)
        return forward(model, variables, {"image": image}, for_network)

    def step(state, batch):
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        for_student, for_teacher = jax.random.split(key)
        labelled = len(batch["image"])
        image = jnp.concatenate([batch["image"], batch["unlabeled"]])
        taught, _ = look(state.evaluated(), image, for_teacher)
        target = jax.nn.softmax(taught["logits"])
        grown = jnp.clip(state.step / ramp_steps, 0.0, 1.0)
        factor = weight * jnp.exp(-5 * (1 - grown) ** 2)

        def loss_of(params):
            outputs, changed = look(
                {**state.variables, "params": params}, image, for_student
            )
            of_labelled = jax.tree.map(lambda x: x[:labelled], outputs)
            supervised, parts = with_parts(loss(of_labelled, batch))
            difference = jax.nn.softmax(outputs["logits"]) - target
            consistency = jnp.mean(difference**2)
            parts = {**parts, "supervised": supervised, "consistency": consistency}
            return supervised + factor * consistency, (parts, changed)

        grad = jax.value_and_grad(loss_of, has_aux=True)
        (value, (parts, changed)), gradients = grad(state.params)
        metrics = {
            "loss": value,
            **parts,
            "gradient_norm": global_norm(gradients),
            "learning_rate": jnp.asarray(schedule(state.step), jnp.float32),
        }
        state = apply_gradients(state, gradients, changed, optimizer, ema, loss=value)
        return state, metrics

    return step
