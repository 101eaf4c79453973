"""Optimizers by hand, and all that Optax publishes."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from segjax.errors import UserError
from segjax.training.optimizers import optim
from segjax.training.optimizers.builder import kernels, make_optimizer
from segjax.training.optimizers.lr_multipliers import factors
from segjax.training.optimizers.schedule_free import evaluated_params

PARAMS = {
    "conv": {"kernel": np.array([1.0, -2.0]), "bias": np.array([3.0])},
    "norm": {"scale": np.array([0.5]), "bias": np.array([-1.0])},
}
SGD = {"name": "sgd"}
GRADIENTS = jax.tree.map(lambda x: 0.1 * x + 0.2, PARAMS)


def as_jax(tree):
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), tree)


def run(optimizer, steps, gradients=GRADIENTS, params=PARAMS):
    """The parameters after each of `steps` steps with the same gradients."""
    params, gradients = as_jax(params), as_jax(gradients)
    state = optimizer.init(params)
    trace = []
    for _ in range(steps):
        updates, state = optimizer.update(gradients, state, params)
        params = optax.apply_updates(params, updates)
        trace.append(params)
    return trace


def make(name, schedule, **keys):
    return make_optimizer({"name": name, **keys}, schedule)


def test_weight_decay_acts_on_kernels_alone():
    marked = kernels(PARAMS)
    assert marked == {
        "conv": {"kernel": True, "bias": False},
        "norm": {"scale": False, "bias": False},
    }


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_adds_the_decay_before_the_momentum(nesterov):
    rate, momentum, decay = 0.1, 0.9, 0.05
    optimizer = make(
        "sgd",
        schedule=optax.constant_schedule(rate),
        momentum=momentum,
        nesterov=nesterov,
        weight_decay=decay,
    )
    found = run(optimizer, 4)

    def by_hand(x, gradient, decay):
        velocity = np.zeros_like(x)
        for _ in range(4):
            slope = gradient + decay * x
            velocity = momentum * velocity + slope
            x = x - rate * (slope + momentum * velocity if nesterov else velocity)
        return x

    for group, name in (("conv", "kernel"), ("conv", "bias"), ("norm", "scale")):
        expected = by_hand(
            PARAMS[group][name],
            GRADIENTS[group][name],
            decay if name == "kernel" else 0.0,
        )
        np.testing.assert_allclose(found[-1][group][name], expected, rtol=1e-5)


@pytest.mark.parity
@pytest.mark.parametrize(
    ("name", "arguments", "torch_name"),
    [
        ("sgd", {"momentum": 0.99, "weight_decay": 0.05}, "SGD"),
        ("sgd", {"momentum": 0.9, "nesterov": True}, "SGD"),
        ("adam", {}, "Adam"),
        ("adamw", {"weight_decay": 0.05}, "AdamW"),
    ],
)
def test_optimizers_equal_those_of_torch(name, arguments, torch_name):
    torch = pytest.importorskip("torch")
    optimizer = make(name, schedule=optax.constant_schedule(0.1), **arguments)
    kernel = {"kernel": np.array([1.0, -2.0, 0.3])}
    gradient = {"kernel": np.array([0.2, -0.1, 0.7])}
    found = run(optimizer, 5, gradient, kernel)[-1]["kernel"]

    x = torch.tensor(kernel["kernel"], requires_grad=True)
    theirs = getattr(torch.optim, torch_name)([x], lr=0.1, **arguments)
    for _ in range(5):
        x.grad = torch.tensor(gradient["kernel"])
        theirs.step()
    np.testing.assert_allclose(found, x.detach().numpy(), rtol=2e-5)


def test_adamw_decays_apart_from_the_moments():
    zero = jax.tree.map(np.zeros_like, PARAMS)
    optimizer = make("adamw", schedule=optax.constant_schedule(0.1), weight_decay=0.5)
    found = run(optimizer, 1, gradients=zero)[0]
    np.testing.assert_allclose(
        found["conv"]["kernel"], PARAMS["conv"]["kernel"] * 0.95, rtol=1e-6
    )
    np.testing.assert_allclose(found["conv"]["bias"], PARAMS["conv"]["bias"])
    np.testing.assert_allclose(found["norm"]["scale"], PARAMS["norm"]["scale"])


@pytest.mark.parametrize("name", sorted(optim.OPTIMIZERS))
def test_gradients_are_clipped_to_the_norm_of_all_together(name):
    large = jax.tree.map(lambda x: 100.0 * x, GRADIENTS)
    norm = float(optim.global_norm(as_jax(large)))
    schedule = optax.constant_schedule(0.1)
    clipped = make(name, schedule=schedule, clip_norm=2.0)
    plain = make(name, schedule=schedule)
    scaled = jax.tree.map(lambda x: x * 2.0 / norm, large)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5),
        run(clipped, 2, large)[-1],
        run(plain, 2, scaled)[-1],
    )


def test_small_gradients_are_not_clipped():
    schedule = optax.constant_schedule(0.1)
    jax.tree.map(
        np.testing.assert_array_equal,
        run(make("sgd", schedule=schedule, clip_norm=1e3), 2)[-1],
        run(make("sgd", schedule=schedule), 2)[-1],
    )


@pytest.mark.parametrize(
    ("name", "arguments", "sentence"),
    [
        ("sgd", {"momentum": 1.0}, "momentum must be at least 0 and less than 1"),
        ("sgd", {"weight_decay": -1.0}, "weight_decay must be"),
        ("adam", {"b1": -0.1}, "b1 must be"),
        ("adam", {"eps": 0.0}, "eps must be greater than 0"),
        ("adamw", {"b2": 1.0}, "b2 must be"),
        ("adamw", {"weight_decay": -1.0}, "weight_decay must be"),
        *(
            (name, {"clip_norm": 0.0}, "clip_norm must be greater than 0, or None")
            for name in optim.OPTIMIZERS
        ),
    ],
)
def test_optimizers_refuse_what_cannot_work(name, arguments, sentence):
    with pytest.raises(UserError, match=sentence):
        make(name, schedule=optim.constant(learning_rate=0.1, num_steps=1), **arguments)


def test_factors_multiply_where_several_patterns_match():
    params = {"head": {"conv": PARAMS["conv"]}, "conv": PARAMS["conv"]}
    found = factors(params, (("head/*", 10.0), ("*/bias", 2)))
    assert found == {
        "head": {"conv": {"kernel": 10.0, "bias": 20.0}},
        "conv": {"kernel": 1.0, "bias": 2.0},
    }


@pytest.mark.parametrize("name", sorted(optim.OPTIMIZERS))
def test_a_multiplier_is_another_rate_for_what_it_matches(name):
    decay = {} if name == "adam" else {"weight_decay": 0.05}
    with_rate = lambda rate, **more: make(
        name, schedule=optax.constant_schedule(rate), **decay, **more
    )
    found = run(with_rate(0.01, multipliers=(("norm/*", 1.0), ("conv/*", 5.0))), 3)[-1]
    slow, fast = run(with_rate(0.01), 3)[-1], run(with_rate(0.05), 3)[-1]
    for tree, expected in (("conv", fast), ("norm", slow)):
        for leaf, value in found[tree].items():
            np.testing.assert_allclose(value, expected[tree][leaf], rtol=1e-6)


@pytest.mark.parametrize("name", sorted(optim.OPTIMIZERS))
def test_what_is_frozen_neither_moves_nor_decays_nor_counts_in_the_norm(name):
    decay = {} if name == "adam" else {"weight_decay": 0.5}
    frozen = lambda **more: make(
        name, schedule=optax.constant_schedule(0.1), clip_norm=0.2, **decay, **more
    )
    wild = GRADIENTS | {"conv": jax.tree.map(lambda x: x * np.nan, GRADIENTS["conv"])}
    found = run(frozen(multipliers=(("conv/*", 0),)), 2, wild)[-1]
    jax.tree.map(np.testing.assert_array_equal, found["conv"], as_jax(PARAMS["conv"]))
    alone = {"norm": PARAMS["norm"]}
    expected = run(frozen(), 2, {"norm": GRADIENTS["norm"]}, alone)[-1]
    jax.tree.map(np.testing.assert_array_equal, found["norm"], expected["norm"])


def test_a_pattern_that_matches_nothing_is_named_beside_those_that_there_are():
    optimizer = make(
        "sgd", schedule=optax.constant_schedule(0.1), multipliers=(("conv/kernl", 2.0),)
    )
    message = 'pattern "conv/kernl", which matches no parameter; there are conv/kernel, .*bias'
    with pytest.raises(ValueError, match=message):
        optimizer.init(as_jax(PARAMS))


@pytest.mark.parametrize("name", sorted(optim.OPTIMIZERS))
def test_an_update_of_several_batches_is_that_of_their_mean_gradient(name):
    """The rate falls by half each batch, so an update that read another one is seen."""
    schedule = optim.step(learning_rate=0.1, num_steps=6, every=1, gamma=0.5)
    batches = [jax.tree.map(lambda x, k=k: k * x - 0.1, GRADIENTS) for k in range(6)]
    several = make(
        name,
        schedule=schedule,
        accumulate=3,
        clip_norm=0.3,
        multipliers=(("*/bias", 2.0),),
    )
    params = as_jax(PARAMS)
    state = jax.jit(several.init)(params)
    trace = []
    for gradients in batches:
        updates, state = several.update(as_jax(gradients), state, params)
        params = optax.apply_updates(params, updates)
        trace.append(params)
    for waiting in trace[:2]:
        jax.tree.map(np.testing.assert_array_equal, waiting, as_jax(PARAMS))

    one = make(
        name,
        schedule=lambda count: schedule(3 * count),
        clip_norm=0.3,
        multipliers=(("*/bias", 2.0),),
    )
    params = as_jax(PARAMS)
    state = one.init(params)
    for k in (0, 3):
        mean = jax.tree.map(lambda *x: sum(x) / 3, *batches[k : k + 3])
        updates, state = one.update(as_jax(mean), state, params)
        params = optax.apply_updates(params, updates)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), trace[-1], params
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"multipliers": {"a": 1.0}}, "multipliers must be a tuple of pairs"),
        (
            {"multipliers": ("*/bias", 2.0)},
            "multipliers must be pairs .*got '\\*/bias'",
        ),
        ({"multipliers": (("a", "2"),)}, "multipliers must be pairs"),
        ({"multipliers": (("a", -1.0),)}, 'the multiplier of "a" must be .*got -1.0'),
        ({"accumulate": 0}, "accumulate is an integer number of batches.*got 0"),
        ({"accumulate": 2.0}, "accumulate is an integer number of batches.*got 2.0"),
    ],
)
def test_multipliers_and_batches_that_cannot_be_are_refused(arguments, sentence):
    with pytest.raises(UserError, match=sentence):
        make(
            "sgd", schedule=optim.constant(learning_rate=0.1, num_steps=1), **arguments
        )


def test_lion_follows_its_formula():
    """Chen et al. 2023, arXiv 2302.06675, algorithm 2."""
    rate, b1, b2, decay = 0.1, 0.9, 0.99, 0.05
    lion = make("optax:lion", optax.constant_schedule(rate), weight_decay=decay)
    found = run(lion, 3)[-1]
    for name, factor in (("kernel", decay), ("bias", 0.0)):
        x, gradient = PARAMS["conv"][name], GRADIENTS["conv"][name]
        mean = np.zeros_like(x)
        for _ in range(3):
            step = np.sign(b1 * mean + (1 - b1) * gradient)
            x = x - rate * (step + factor * x)
            mean = b2 * mean + (1 - b2) * gradient
        np.testing.assert_allclose(found["conv"][name], x, rtol=1e-5)


def orthogonalized(matrix):
    """Five steps of Newton and Schulz, with the coefficients of Jordan et al. 2024."""
    x = matrix / np.linalg.norm(matrix)
    x = x.T if x.shape[0] > x.shape[1] else x
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x


def test_muon_takes_kernels_of_convolutions_as_matrices():
    rng = np.random.default_rng(0)
    kernel, gradient = rng.normal(size=(2, 3, 3, 16, 32))
    shapes = {"hidden": (3, 3, 16, 32), "stem": (3, 3, 1, 32), "logits": (1, 1, 32, 99)}
    params = {name: {"kernel": np.ones(shape)} for name, shape in shapes.items()}
    params["hidden"]["kernel"] = kernel
    gradients = jax.tree.map(np.ones_like, params)
    gradients["hidden"]["kernel"] = gradient
    keys = {"adam_learning_rate": 0.01, "weight_decay": 0.05}
    schedule = optax.constant_schedule(0.1)
    muon = make_optimizer({"name": "optax.contrib:muon", **keys}, schedule, peak=0.1)
    found = run(muon, 1, gradients, params)[0]
    step = orthogonalized(gradient.reshape(144, 32)).reshape(3, 3, 16, 32)
    np.testing.assert_allclose(
        found["hidden"]["kernel"], kernel - 0.1 * (step + 0.05 * kernel), atol=1e-4
    )
    # The first step of NAdam, which Optax's Muon leaves the rest to (Dozat 2016).
    first = 0.01 * (0.9 * 0.1 / (1 - 0.9**2) + 1)
    for name in ("stem", "logits"):
        np.testing.assert_allclose(found[name]["kernel"], 1 - first, rtol=1e-5)


def test_the_rate_falls_from_the_last_block_to_the_first():
    blocks = lambda: (("conv",), ("norm",))
    group = {"name": "sgd", "layer_decay": 0.5, "multipliers": (("*/bias", 2.0),)}
    schedule = optax.constant_schedule(0.1)
    found = run(make_optimizer(group, schedule, blocks=blocks), 1)[0]
    for block, name, rate in (
        *(("conv", "kernel", 0.05), ("conv", "bias", 0.1)),
        *(("norm", "scale", 0.1), ("norm", "bias", 0.2)),
    ):
        expected = PARAMS[block][name] - rate * GRADIENTS[block][name]
        np.testing.assert_allclose(found[block][name], expected, rtol=1e-6)


def test_decay_acts_on_what_patterns_match():
    zero = jax.tree.map(np.zeros_like, PARAMS)
    keys = {"weight_decay": 0.5, "decay_on": ("norm/*",)}
    for name in ("sgd", "adamw", "optax:lamb"):
        optimizer = make(name, optax.constant_schedule(0.1), **keys)
        found = run(optimizer, 1, gradients=zero)[0]
        np.testing.assert_array_equal(found["conv"]["kernel"], PARAMS["conv"]["kernel"])
        assert abs(found["norm"]["scale"]) < PARAMS["norm"]["scale"]
    optimizer = make("sgd", optax.constant_schedule(0.1), decay_on=("norm/scales",))
    with pytest.raises(ValueError, match='decay_on has the pattern "norm/scales"'):
        optimizer.init(as_jax(PARAMS))


def test_a_plateau_of_the_loss_reduces_the_updates():
    plateau = {"patience": 2, "factor": 0.5, "cooldown": 0}
    optimizer = make(
        "sgd",
        optax.constant_schedule(0.1),
        after=(("optax.contrib:reduce_on_plateau", plateau),),
        momentum=0.0,
    )
    params, state, sizes = as_jax(PARAMS), None, []
    state = optimizer.init(params)
    for _ in range(5):
        updates, state = optimizer.update(params, state, params, value=jnp.float32(1.0))
        sizes.append(float(updates["norm"]["scale"][0]))
    assert sizes[:2] == pytest.approx([-0.05, -0.05])
    assert sizes[3] == pytest.approx(-0.025)


def test_an_optimizer_within_another_has_keys_of_its_own():
    inner = {"name": "sgd", "momentum": 0.0, "multipliers": (("conv/*", 0.0),)}
    group = {"name": "optax.contrib:schedule_free", "base_optimizer": inner}
    schedule = optax.constant_schedule(0.1)
    found = run(make_optimizer(group, schedule), 2)[-1]
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6),
        found["conv"],
        as_jax(PARAMS["conv"]),
    )
    assert found["norm"]["scale"] < PARAMS["norm"]["scale"]


@pytest.mark.parametrize("clip_norm", [None, 0.1])
@pytest.mark.parametrize("around", ["schedule_free", "sam", "mechanize"])
def test_what_is_frozen_within_another_stays_to_the_bit(around, clip_norm):
    inner = {"name": "adamw", "b1": 0.0, "weight_decay": 0.5}
    inner["multipliers"] = (("conv/*", 0.0),)
    keys = {"base_optimizer": inner, "weight_decay": 0.5}
    if around == "sam":
        looks = {"name": "optax:sgd", "learning_rate": 0.05}
        keys |= {"optimizer": keys.pop("base_optimizer"), "adv_optimizer": looks}
    elif around == "mechanize":
        del keys["weight_decay"]  # it has one for the scale that it learns
    schedule = optax.constant_schedule(0.1)
    optimizer = make(f"optax.contrib:{around}", schedule, clip_norm=clip_norm, **keys)
    params, gradients = as_jax(PARAMS), as_jax(GRADIENTS)
    state = optimizer.init(params)
    for _ in range(7):
        updates, state = optimizer.update(gradients, state, params)
        params = optax.apply_updates(params, updates)
        found = evaluated_params(state, params)["conv"]
        jax.tree.map(np.testing.assert_array_equal, found, as_jax(PARAMS["conv"]))
    assert params["norm"]["scale"] != PARAMS["norm"]["scale"]


@pytest.mark.parametrize(
    ("name", "keys", "sentence"),
    [
        ("optax:lion", {"b_1": 0.9}, 'unknown key "b_1". Did you mean "b1"?'),
        ("optax:lion", {"clip_nrm": 1.0}, 'Did you mean "clip_norm"?'),
        ("optax:rprop", {}, "it would not follow config.schedule"),
        ("optax.contrib:normalize", {}, "takes neither schedule nor learning_rate"),
        ("optax.contrib:sam", {}, "optimizer.optimizer is missing"),
        ("optax.contrib:muon", {"adam_learning_rate": 1e-3}, "config.schedule has no"),
        ("optax.contrib:prodigy", {"decay_on": ("*",)}, "leave decay_on out"),
        (
            "optax.contrib:schedule_free_adamw",
            {"multipliers": (("*", 2.0),)},
            "leave it out, or take schedule_free around adamw with b1=0.0",
        ),
        (
            "optax.contrib:schedule_free_sgd",
            {"after": (("optax:scale", {"step_size": 0.5}),)},
            "optimizer.after cannot change the steps of optax.contrib:schedule_free_sgd",
        ),
        (
            "optax.contrib:schedule_free",
            {"base_optimizer": SGD, "after": (("optax:zero_nans", {}),)},
            "put it into the group of the optimizer within",
        ),
        *(
            (f"optax.contrib:{name}", {**more, "b1": 0.0}, "b1 must be greater than 0")
            for name, more in (
                ("schedule_free", {"base_optimizer": SGD}),
                ("schedule_free_adamw", {}),
                ("schedule_free_sgd", {}),
            )
        ),
        ("sgd", {"layer_decay": 0.0}, "layer_decay must be greater than 0"),
        ("sgd", {"layer_decay": 0.5}, "layer_decay needs a network"),
        ("sgd", {"after": ("optax:clip",)}, "after holds pairs of a name"),
    ],
)
def test_what_an_optimizer_cannot_do_is_one_sentence(name, keys, sentence):
    with pytest.raises(UserError, match=re.escape(sentence)):
        make(name, optax.constant_schedule(0.1), **keys)
