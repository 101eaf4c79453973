"""Losses against numbers that were worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.losses import LOSSES
from segjax.losses.semantic import (
    cross_entropy,
    cross_entropy_and_dice,
    dice,
    focal,
    hard_cross_entropy,
    jaccard,
)
from segjax.ops.base.forms import forms

IGNORED = 255


def batch_of(label, weight=None):
    label = jnp.asarray(label, jnp.int32)[None]
    ones = jnp.ones(label.shape, jnp.float32)
    weight = ones if weight is None else jnp.asarray(weight, jnp.float32)[None]
    return {"label": label, "weight": weight}


def outputs_of(probabilities):
    """Logits whose softmax is `probabilities` `[H, W, K]`."""
    return {"logits": jnp.log(jnp.asarray(probabilities, jnp.float32))[None] + 3.0}


QUARTER = outputs_of([[[0.25, 0.75], [0.5, 0.5]]])


def test_cross_entropy_is_the_mean_of_minus_log_p():
    loss = cross_entropy(QUARTER, batch_of([[0, 1]]))
    assert float(loss) == pytest.approx((np.log(4) + np.log(2)) / 2, rel=1e-6)


def test_smoothing_spreads_a_part_of_the_truth_over_all_classes():
    """Szegedy et al. 2016: the truth is `(1 - e) [k = y] + e / K`."""
    batch = batch_of([[0, IGNORED]])
    loss = cross_entropy(QUARTER, batch, label_smoothing=0.1)
    expected = -(0.95 * np.log(0.25) + 0.05 * np.log(0.75))
    assert float(loss) == pytest.approx(expected, rel=1e-6)


def test_smoothing_weighs_each_class_by_its_own_factor():
    loss = cross_entropy(
        QUARTER, batch_of([[0, IGNORED]]), label_smoothing=0.1, class_weights=(2.0, 3.0)
    )
    expected = -(2 * 0.95 * np.log(0.25) + 3 * 0.05 * np.log(0.75))
    assert float(loss) == pytest.approx(expected, rel=1e-6)


def test_sum_does_not_divide():
    loss = cross_entropy(QUARTER, batch_of([[0, 1]]), reduction="sum")
    assert float(loss) == pytest.approx(np.log(4) + np.log(2), rel=1e-6)


def test_ignored_pixels_do_not_count():
    loss = cross_entropy(QUARTER, batch_of([[0, IGNORED]]))
    assert float(loss) == pytest.approx(np.log(4), rel=1e-6)


def test_pixels_of_weight_zero_do_not_count():
    loss = cross_entropy(QUARTER, batch_of([[0, 1]], weight=[[1, 0]]))
    assert float(loss) == pytest.approx(np.log(4), rel=1e-6)


def test_weights_multiply_and_the_mean_divides_by_pixels():
    loss = cross_entropy(QUARTER, batch_of([[0, 1]], weight=[[3, 0.5]]))
    assert float(loss) == pytest.approx((3 * np.log(4) + 0.5 * np.log(2)) / 2, rel=1e-6)


def test_class_weights_multiply():
    loss = cross_entropy(QUARTER, batch_of([[0, 1]]), class_weights=(2.0, 0.1))
    assert float(loss) == pytest.approx((2 * np.log(4) + 0.1 * np.log(2)) / 2, rel=1e-6)


def test_dice_is_one_minus_the_mean_overlap():
    loss = dice(QUARTER, batch_of([[0, 1]]), smoothing=1.0)
    first = (2 * 0.25 + 1) / (0.75 + 1 + 1)
    second = (2 * 0.5 + 1) / (1.25 + 1 + 1)
    assert float(loss) == pytest.approx(1 - (first + second) / 2, rel=1e-6)


def test_dice_of_a_perfect_answer_is_zero():
    sure = outputs_of([[[1 - 1e-7, 1e-7], [1e-7, 1 - 1e-7]]])
    assert float(dice(sure, batch_of([[0, 1]]))) == pytest.approx(0, abs=1e-6)


def test_dice_ignores_and_weighs():
    loss = dice(QUARTER, batch_of([[0, IGNORED]], weight=[[2, 1]]), smoothing=0.5)
    first = (2 * 2 * 0.25 + 0.5) / (2 * 0.25 + 2 + 0.5)
    second = 0.5 / (2 * 0.75 + 0.5)
    assert float(loss) == pytest.approx(1 - (first + second) / 2, rel=1e-6)


def test_cross_entropy_and_dice_is_their_sum():
    batch = batch_of([[0, 1]])
    both = cross_entropy_and_dice(QUARTER, batch, dice_weight=0.3)
    expected = cross_entropy(QUARTER, batch) + 0.3 * dice(QUARTER, batch)
    assert float(both) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.quick(3)
@pytest.mark.parametrize("name", sorted(LOSSES))
def test_plain_and_fast_forms_agree(name):
    step, batch = jax.value_and_grad(LOSSES[name]), batch_of([[0, IGNORED]])
    fast = step(QUARTER, batch)
    with forms("plain"):
        plain = step(QUARTER, batch)
    for a, b in zip(jax.tree.leaves(fast), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_all_ignored_gives_a_finite_loss_and_no_gradient(name):
    batch = batch_of([[IGNORED, IGNORED]])
    loss, gradient = jax.value_and_grad(LOSSES[name])(QUARTER, batch)
    assert float(loss) == pytest.approx(0, abs=1e-6)
    np.testing.assert_array_equal(gradient["logits"], 0)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_what_stands_at_ignored_pixels_does_not_matter(name):
    wild = QUARTER["logits"].at[0, 0, 1].set(jnp.array([1e30, -1e30]))
    batch = batch_of([[0, IGNORED]])
    loss = jax.value_and_grad(LOSSES[name])
    calm_value, calm_gradient = loss(QUARTER, batch)
    value, gradient = loss({"logits": wild}, batch)
    assert float(value) == pytest.approx(float(calm_value), rel=1e-6)
    np.testing.assert_allclose(
        gradient["logits"], calm_gradient["logits"], rtol=1e-6, atol=1e-7
    )


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_large_logits_stay_finite(name):
    outputs = {"logits": 1e4 * jnp.array([[[[1.0, -1.0], [1.0, -1.0]]]])}
    loss, gradient = jax.value_and_grad(LOSSES[name])(outputs, batch_of([[0, 1]]))
    assert np.isfinite(float(loss))
    assert np.isfinite(gradient["logits"]).all()


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_bfloat16_logits_give_a_float32_loss(name):
    outputs = {"logits": QUARTER["logits"].astype(jnp.bfloat16)}
    assert LOSSES[name](outputs, batch_of([[0, 1]])).dtype == jnp.float32


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_jit_changes_nothing(name):
    batch = batch_of([[0, 1]])
    found = jax.jit(LOSSES[name])(QUARTER, batch)
    assert float(found) == pytest.approx(float(LOSSES[name](QUARTER, batch)), rel=1e-6)


def test_gradient_of_cross_entropy_is_softmax_minus_truth():
    gradient = jax.grad(cross_entropy)(QUARTER, batch_of([[0, 1]]))["logits"]
    expected = np.array([[[0.25 - 1, 0.75], [0.5, 0.5 - 1]]])[None] / 2
    np.testing.assert_allclose(gradient, expected, rtol=1e-5)


def test_unknown_reductions_are_refused():
    with pytest.raises(ValueError, match='"mean" or "sum", got \'avg\''):
        cross_entropy(QUARTER, batch_of([[0, 1]]), reduction="avg")


def test_class_weights_of_another_length_are_refused():
    with pytest.raises(ValueError, match="3 entries for 2 classes"):
        cross_entropy(QUARTER, batch_of([[0, 1]]), class_weights=(1.0, 1.0, 1.0))


def test_labels_of_another_size_are_refused():
    with pytest.raises(AssertionError):
        cross_entropy(QUARTER, batch_of([[0, 1], [0, 1]]))


def random_case(num_classes=5, shape=(2, 7, 9), seed=0):
    """Logits and a batch with ignored pixels."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, num_classes, shape)
    label[rng.random(shape) < 0.2] = IGNORED
    batch = {"label": jnp.asarray(label, jnp.int32), "weight": jnp.ones(shape)}
    logits = rng.normal(size=(*shape, num_classes)).astype(np.float32)
    return {"logits": jnp.asarray(logits)}, batch


def nll(outputs, batch):
    """Minus log p of the pixels that count, by hand."""
    logits, label = np.asarray(outputs["logits"], float), np.asarray(batch["label"])
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    counts = label != IGNORED
    return -log_p[counts, label[counts]]


def test_focal_of_gamma_zero_is_the_cross_entropy():
    outputs, batch = random_case()
    weights = (0.1, 1.0, 2.0, 3.0, 0.5)
    found = focal(outputs, batch, gamma=0, class_weights=weights)
    expected = cross_entropy(outputs, batch, class_weights=weights)
    assert float(found) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_is_cross_entropy_times_a_power_of_what_is_missing(gamma):
    outputs, batch = random_case()
    loss = nll(outputs, batch)
    expected = (loss * (1 - np.exp(-loss)) ** gamma).sum()
    found = focal(outputs, batch, gamma=gamma, reduction="sum")
    assert float(found) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_focal_has_a_finite_slope_where_nothing_is_missing(gamma):
    sure = {"logits": jnp.array([[[[200.0, -200.0], [1.0, 0.0]]]])}
    gradient = jax.grad(lambda x: focal(x, batch_of([[0, 0]]), gamma=gamma))(sure)
    assert np.isfinite(gradient["logits"]).all()
    np.testing.assert_allclose(gradient["logits"][0, 0, 0], 0, atol=1e-6)


def test_jaccard_is_one_minus_the_mean_intersection_over_union():
    loss = jaccard(QUARTER, batch_of([[0, 1]]), smoothing=1.0)
    first = (0.25 + 1) / (0.75 + 1 - 0.25 + 1)
    second = (0.5 + 1) / (1.25 + 1 - 0.5 + 1)
    assert float(loss) == pytest.approx(1 - (first + second) / 2, rel=1e-6)


def test_jaccard_of_a_certain_answer_is_one_minus_its_mean_iou():
    sure = np.eye(2)[[[0, 0, 1, 1, 1]]] * 60.0
    batch = batch_of([[0, 1, 1, 1, IGNORED]])
    loss = jaccard({"logits": jnp.asarray(sure)[None]}, batch, smoothing=0.0)
    assert float(loss) == pytest.approx(1 - (1 / 2 + 2 / 3) / 2, rel=1e-6)


@pytest.mark.parametrize("fraction", [1 / 16, 0.3, 1.0])
def test_the_fraction_of_the_hardest_pixels_is_taken(fraction):
    outputs, batch = random_case()
    loss = np.sort(nll(outputs, batch))[::-1]
    kept = int(np.ceil(fraction * loss.size))
    found = hard_cross_entropy(outputs, batch, fraction=fraction, threshold=None)
    assert float(found) == pytest.approx(loss[:kept].mean(), rel=1e-5)


@pytest.mark.parametrize("minimum", [0, 60, 10**6])
def test_pixels_below_the_threshold_are_hard_and_at_least_the_minimum(minimum):
    outputs, batch = random_case()
    loss = np.sort(nll(outputs, batch))[::-1]
    below = int((np.exp(-loss) < 0.15).sum())
    assert 0 < below < 60 < loss.size
    found = hard_cross_entropy(
        outputs, batch, fraction=0.0, threshold=0.15, minimum=minimum
    )
    kept = min(max(below, minimum), loss.size)
    assert float(found) == pytest.approx(loss[:kept].mean(), rel=1e-5)


def test_easy_pixels_have_no_gradient():
    outputs, batch = random_case()
    loss = lambda x: hard_cross_entropy(x, batch, fraction=0.25, threshold=None)
    gradient = np.abs(jax.grad(loss)(outputs)["logits"]).sum(-1)
    kept = int(np.ceil(0.25 * nll(outputs, batch).size))
    assert np.count_nonzero(gradient) == kept


def test_hardness_does_not_look_at_the_weights():
    """The pixel of p = 1/4 is the harder one, whatever it weighs."""
    batch = batch_of([[0, 1]], weight=[[0.01, 5.0]])
    loss = hard_cross_entropy(
        QUARTER, batch, fraction=0.5, threshold=None, class_weights=(3.0, 7.0)
    )
    assert float(loss) == pytest.approx(0.01 * 3 * np.log(4), rel=1e-5)


@pytest.mark.parametrize(
    ("loss", "arguments", "sentence"),
    [
        (
            focal,
            {"gamma": -1.0},
            "gamma must be a finite number of at least 0, got -1.0",
        ),
        (focal, {"reduction": "avg"}, '"mean" or "sum", got \'avg\''),
        (
            hard_cross_entropy,
            {"fraction": 1.5},
            r"fraction must be in \[0, 1\], got 1.5",
        ),
        (hard_cross_entropy, {"threshold": 0.0}, "threshold must be .* got 0.0"),
        (hard_cross_entropy, {"minimum": 0.5}, "minimum is a number of pixels"),
        (
            hard_cross_entropy,
            {"fraction": 0, "threshold": None},
            "no pixel would be hard",
        ),
    ],
)
def test_arguments_out_of_range_are_refused(loss, arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        loss(QUARTER, batch_of([[0, 1]]), **arguments)


@pytest.mark.parity
@pytest.mark.parametrize("class_weights", [None, (0.3, 1.0, 2.0, 0.5, 7.0)])
def test_cross_entropy_and_its_gradient_equal_those_of_torch(class_weights):
    torch = pytest.importorskip("torch")
    outputs, batch = random_case()
    found, gradient = jax.value_and_grad(
        lambda x: cross_entropy(x, batch, class_weights=class_weights, reduction="sum")
    )(outputs)
    logits = torch.tensor(np.asarray(outputs["logits"]), requires_grad=True)
    expected = torch.nn.functional.cross_entropy(
        logits.permute(0, 3, 1, 2),
        torch.tensor(np.asarray(batch["label"])).long(),
        weight=None if class_weights is None else torch.tensor(class_weights),
        ignore_index=IGNORED,
        reduction="sum",
    )
    expected.backward()
    assert float(found) == pytest.approx(expected.item(), rel=1e-5)
    np.testing.assert_allclose(
        gradient["logits"], logits.grad.numpy(), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parity
def test_focal_of_two_classes_equals_the_sigmoid_form_of_torchvision(torchvision):
    torch = pytest.importorskip("torch")
    outputs, batch = random_case(num_classes=2)
    weights = (1 - 0.25, 0.25)  # the paper's alpha
    found, gradient = jax.value_and_grad(
        lambda x: focal(x, batch, gamma=2.0, class_weights=weights, reduction="sum")
    )(outputs)
    label = np.asarray(batch["label"])
    logits = torch.tensor(np.asarray(outputs["logits"]), requires_grad=True)
    score = (logits[..., 1] - logits[..., 0])[torch.tensor(label != IGNORED)]
    truth = torch.tensor(label[label != IGNORED]).float()
    expected = torchvision.ops.sigmoid_focal_loss(
        score, truth, alpha=0.25, gamma=2.0, reduction="sum"
    )
    expected.backward()
    assert float(found) == pytest.approx(expected.item(), rel=1e-5)
    np.testing.assert_allclose(
        gradient["logits"], logits.grad.numpy(), rtol=1e-4, atol=1e-6
    )
