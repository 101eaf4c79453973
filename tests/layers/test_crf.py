"""The CRF as a layer: what it learns, and from what it starts."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from segjax.layers.crf import DenseCRF
from segjax.ops.crf.dense import dense_crf

SIZE = (6, 7)
SMALL = {"sigma_alpha": 4.0, "sigma_beta": 40.0, "sigma_gamma": 1.5}


@functools.cache
def example():
    generator = np.random.default_rng(0)
    image = generator.uniform(0, 255, (2, *SIZE, 3))
    image[:, :, :4] = 0.3 * image[:, :, :4] + 150
    logits = generator.normal(size=(2, *SIZE, 3))
    return jnp.asarray(logits, jnp.float32), jnp.asarray(image, jnp.float32)


def shapes(**options):
    module = DenseCRF(num_classes=3, method="exact", **SMALL, **options)
    variables = jax.eval_shape(module.init, jax.random.key(0), *example())
    return {name: leaf.shape for name, leaf in variables["params"].items()}


def test_parameters_are_named_for_what_they_are() -> None:
    weights = {"appearance_weight": (), "smoothness_weight": ()}
    widths = {f"log_sigma_{name}": () for name in ("alpha", "beta", "gamma")}
    assert shapes() == weights
    assert shapes(compatibility="diagonal") == weights | {"compatibility": (3,)}
    assert shapes(compatibility="full") == weights | {"compatibility": (3, 3)}
    assert shapes(learn_widths=True) == weights | widths


@functools.cache
def potts_model():
    logits, image = example()
    options = {"w1": 4.0, "w2": 3.0, "num_iterations": 5, "method": "exact"}
    return jax.jit(functools.partial(dense_crf, **SMALL, **options))(image, logits)


@pytest.mark.parametrize("compatibility", ["potts", "diagonal", "full"])
def test_layer_starts_as_the_potts_model(compatibility) -> None:
    logits, image = example()
    layer = DenseCRF(3, compatibility=compatibility, method="exact", **SMALL)
    refined, _ = jax.jit(layer.init_with_output)(jax.random.key(0), logits, image)
    np.testing.assert_allclose(jax.nn.softmax(refined), potts_model(), atol=2e-5)


def test_kernel_weights_are_learned_end_to_end() -> None:
    # A CRF of known weights and compatibility made the marginals; they are found again.
    logits, image = example()
    layer = DenseCRF(3, 3, compatibility="diagonal", method="exact", **SMALL)
    truth = {
        "appearance_weight": jnp.array(2.0),
        "smoothness_weight": jnp.array(0.7),
        "compatibility": jnp.array([-1.0, -1.4, -0.6]),
    }
    target = jax.nn.softmax(layer.apply({"params": truth}, logits, image))
    start = {
        "appearance_weight": jnp.array(1.0),
        "smoothness_weight": jnp.array(1.0),
        "compatibility": -jnp.ones(3),
    }
    optimizer = optax.adam(optax.cosine_decay_schedule(0.1, 300))

    def loss(params):
        log = jax.nn.log_softmax(layer.apply({"params": params}, logits, image))
        return jnp.sum(target * (jnp.log(target) - log), -1).mean()

    @jax.jit
    def train(params):
        def step(carry, _):
            params, state = carry
            value, gradient = jax.value_and_grad(loss)(params)
            updates, state = optimizer.update(gradient, state)
            return (optax.apply_updates(params, updates), state), value

        carry = (params, optimizer.init(params))
        (params, _), losses = jax.lax.scan(step, carry, length=300)
        return params, losses

    found, losses = train(start)
    assert float(losses[-1]) < 1e-3 * float(losses[0])
    # A common factor of weights and compatibility is free: compare their products.
    for name in ("appearance_weight", "smoothness_weight"):
        product = found[name] * found["compatibility"]
        expected = truth[name] * truth["compatibility"]
        np.testing.assert_allclose(product, expected, rtol=0.02)


def test_widths_are_learned_through_the_exact_filter() -> None:
    logits, image = example()
    layer = DenseCRF(3, learn_widths=True, method="exact", num_iterations=2, **SMALL)
    params = {
        "appearance_weight": jnp.array(2.0),
        "smoothness_weight": jnp.array(1.0),
        **{f"log_{name}": jnp.log(width) for name, width in SMALL.items()},
    }

    @jax.jit
    @jax.value_and_grad
    def loss(params):
        log = jax.nn.log_softmax(layer.apply({"params": params}, logits, image))
        return -log[..., 0].mean()

    _, gradient = loss(params)
    for name in params:
        up, down = (
            loss(params | {name: params[name] + step})[0] for step in (1e-2, -1e-2)
        )
        np.testing.assert_allclose(gradient[name], (up - down) / 2e-2, rtol=0.03)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 0}, "num_classes is an integer of at least 1, got 0"),
        ({"compatibility": "ising"}, "compatibility is one of potts, diagonal, full"),
        ({"sigma_beta": -1.0}, "sigma_beta is above 0, got -1.0"),
        ({"learn_widths": True}, "learn_widths needs the method exact or window"),
        ({"method": "grid"}, "method is one of auto, exact"),
    ],
)
def test_bad_attributes_are_one_sentence(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        DenseCRF(**{"num_classes": 3, **options})


def test_channels_first_are_one_sentence() -> None:
    logits, image = (jnp.moveaxis(x, -1, 1) for x in example())
    with pytest.raises(
        ValueError, match=r"allowed are \[B, H, W, 3\], the classes last"
    ):
        DenseCRF(num_classes=3).init(jax.random.key(0), logits, image)
