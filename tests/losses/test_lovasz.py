"""The Lovasz-softmax loss against the definition of the extension, set by set."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.losses.lovasz import jaccard_steps, lovasz_softmax
from segjax.types import IGNORE_LABEL

CLASSES = 4


def random_case(shape=(2, 5, 6), seed=0):
    """Class 3 is nowhere in the truth, class 2 in the first image alone."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 3, shape)
    label[1:][label[1:] == 2] = 0
    label[rng.random(shape) < 0.2] = IGNORE_LABEL
    logits = 2 * rng.normal(size=(*shape, CLASSES))
    return logits, label


def jaccard_loss(truth, wrong):
    """One minus the IoU of a class if exactly the pixels `wrong` are mistaken."""
    return len(wrong) / max(len(truth | wrong), 1)


def extension(error, truth):
    """The Lovasz extension of `jaccard_loss`, from its definition."""
    members, total = {i for i, is_true in enumerate(truth) if is_true}, 0.0
    order = [int(i) for i in np.argsort(-error, kind="stable")]
    for k, i in enumerate(order):
        step = jaccard_loss(members, set(order[: k + 1])) - jaccard_loss(
            members, set(order[:k])
        )
        total += error[i] * step
    return total


def by_hand(logits, label, classes):
    counts = label != IGNORE_LABEL
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    p, label = p[counts], label[counts]
    chosen = sorted(set(label)) if classes == "present" else classes
    return np.mean(
        [extension(np.abs((label == c) - p[:, c]), label == c) for c in chosen]
    )


def loss_of(logits, label, weight=None, **arguments):
    weight = np.ones(label.shape) if weight is None else weight
    batch = {"label": jnp.asarray(label), "weight": jnp.asarray(weight, jnp.float32)}
    outputs = {"logits": jnp.asarray(logits, jnp.float32)}
    return _loss(outputs, batch, **arguments)


_loss = jax.jit(lovasz_softmax, static_argnames=("classes", "per_image"))


@pytest.mark.parametrize(
    ("classes", "expected"),
    [("present", "present"), ("all", (0, 1, 2, 3)), ((3, 1), (3, 1))],
)
def test_the_loss_is_the_extension_of_the_jaccard_loss(classes, expected):
    logits, label = random_case()
    found = loss_of(logits, label, classes=classes)
    assert float(found) == pytest.approx(by_hand(logits, label, expected), rel=1e-5)


def test_per_image_is_the_mean_over_images_each_with_its_own_classes():
    logits, label = random_case()
    images = [by_hand(logits[i], label[i], "present") for i in range(2)]
    found = loss_of(logits, label, per_image=True)
    assert float(found) == pytest.approx(np.mean(images), rel=1e-5)
    assert float(found) != pytest.approx(float(loss_of(logits, label)), rel=1e-2)


def test_an_image_without_labels_is_no_image():
    logits, label = random_case()
    alone = loss_of(logits[:1], label[:1], per_image=True, classes="all")
    label[1] = IGNORE_LABEL
    both = loss_of(logits, label, per_image=True, classes="all")
    assert float(both) == pytest.approx(float(alone), rel=1e-6)


def test_the_gradient_is_the_slope_of_the_definition():
    logits, label = random_case()
    gradient = np.asarray(jax.grad(loss_of)(jnp.asarray(logits, jnp.float32), label))
    assert not gradient[label == IGNORE_LABEL].any()
    rng = np.random.default_rng(1)
    for _ in range(12):
        direction = rng.normal(size=logits.shape)
        near = [
            by_hand(logits + t * direction, label, "present") for t in (-1e-6, 1e-6)
        ]
        slope = (near[1] - near[0]) / 2e-6
        assert (gradient * direction).sum() == pytest.approx(slope, rel=1e-3, abs=1e-6)


def test_a_certain_answer_costs_one_minus_its_mean_iou():
    label = np.array([[[0, 0, 1, 1, 1, 2, 2, IGNORE_LABEL]]])
    answer = np.array([[[0, 1, 1, 1, 2, 2, 0, 0]]])
    found = loss_of(np.eye(CLASSES)[answer] * 80, label)
    assert float(found) == pytest.approx(1 - (1 / 3 + 2 / 4 + 1 / 3) / 3, rel=1e-6)


def test_a_weight_of_three_is_three_pixels():
    logits, label = random_case(shape=(1, 1, 7), seed=3)
    weight = np.ones(label.shape)
    weight[..., 2], weight[..., 4] = 3, 0
    times = weight[0, 0].astype(int)
    repeated = np.repeat(logits, times, axis=2), np.repeat(label, times, axis=2)
    found = loss_of(logits, label, weight, classes="all")
    expected = loss_of(*repeated, classes="all")
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


def test_steps_of_a_large_image_are_exact_to_float32():
    """As differences of two IoUs they would be off by a tenth."""
    size = 200_000
    rng = np.random.default_rng(0)
    error, truth = rng.random(size).astype(np.float32), rng.random(size) < 0.3
    found = np.asarray(jaccard_steps(jnp.asarray(error), truth, jnp.ones(size)))
    order = np.argsort(-error, kind="stable")
    hit = truth[order]
    iou = (hit.sum() - hit.cumsum()) / (hit.sum() + (~hit).cumsum())
    np.testing.assert_allclose(found[order], -np.diff(iou, prepend=1.0), rtol=1e-4)


@pytest.mark.parametrize("classes", ["some", (), (0, 4), (-1,), (0.0,)])
def test_classes_that_there_are_not_are_refused(classes):
    with pytest.raises(ValueError, match="numbers from 0 to 3, got"):
        loss_of(*random_case(), classes=classes)
