"""Which boxes answer for which objects, and which are sampled."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.ops.regions.matching import ignore_crowds, match, sample, sample_weights

RULES = {"high": 0.7, "low": 0.3}
ALL = jnp.ones(3, bool)
plain = jax.jit(partial(match, **RULES, low_quality=False))
generous = jax.jit(partial(match, **RULES, low_quality=True))


def test_boxes_answer_for_what_they_overlap_most():
    iou = jnp.array([[0.7, 0.69, 0.3, 0.29, 0.8], [0.1, 0.1, 0.1, 0.1, 0.9], [0.0] * 5])
    assert plain(iou, valid=ALL).tolist() == [0, -2, -2, -1, 1]


def test_the_best_box_of_an_object_answers_even_if_it_is_bad():
    iou = jnp.array([[0.2, 0.5, 0.5], [0.25, 0.6, 0.1], [0.0, 0.0, 0.1]])
    # Object 0 is met best by boxes 1 and 2, equally; box 1 prefers object 1 itself.
    assert generous(iou, valid=ALL).tolist() == [-1, 1, 0]


def test_an_object_that_overlaps_nothing_makes_no_box_positive():
    """By the letter of the rule every box ties with its best IoU, which is 0."""
    iou = jnp.zeros((3, 200)).at[0, 7].set(0.9)
    found = np.asarray(generous(iou, valid=ALL))
    assert found[7] == 0
    assert (np.delete(found, 7) == -1).all()


def test_empty_slots_change_nothing():
    rng = np.random.default_rng(0)
    iou = (rng.random((3, 50)) * (rng.random((3, 50)) < 0.2)).astype(np.float32)
    for valid in ([True, True, False], [True, False, False], [False] * 3):
        real = np.asarray(valid)
        # What stands in an empty slot must not matter.
        iou[~real] = rng.random((int((~real).sum()), 50))
        alone = jnp.asarray(iou) * real[:, None]
        found = generous(jnp.asarray(iou), valid=jnp.asarray(valid))
        expected = generous(alone, valid=jnp.asarray(valid))
        np.testing.assert_array_equal(found, expected)
        assert set(np.asarray(found)) <= {*np.flatnonzero(real), -1, -2}
    assert (np.asarray(found) == -1).all()


def test_no_slots_at_all_are_background():
    found = match(jnp.zeros((0, 4)), **RULES, low_quality=True, valid=jnp.ones(0, bool))
    assert found.tolist() == [-1] * 4


def test_eager_jitted_and_mapped_are_one():
    rng = np.random.default_rng(1)
    iou = jnp.asarray(rng.random((2, 3, 20)), jnp.float32)
    priorities = jnp.asarray(rng.random((2, 20)), jnp.float32)

    def matched_and_sampled(iou, priorities):
        matched = match(iou, **RULES, low_quality=True, valid=ALL)
        return matched, sample(matched, priorities, num=8, positive_fraction=0.25)

    mapped = jax.jit(jax.vmap(matched_and_sampled))(iou, priorities)
    for i in range(2):
        jitted = jax.jit(matched_and_sampled)(iou[i], priorities[i])
        one = jax.tree.map(lambda x, i=i: x[i], mapped)
        jax.tree.map(np.testing.assert_array_equal, one, jitted)
    jax.tree.map(
        np.testing.assert_array_equal,
        matched_and_sampled(iou[1], priorities[1]),
        jitted,
    )


def test_background_in_a_crowd_is_left_out():
    matched = jnp.array([0, -1, -1, -2, -1])
    inside = jnp.array([[0.9, 0], [0.5, 0], [0.4, 0.9], [0.9, 0], [0, 0.9]])
    found = ignore_crowds(matched, inside, jnp.array([True, False]))
    assert found.tolist() == [0, -2, -1, -2, -1]


sample_jit = jax.jit(sample, static_argnames=("num", "positive_fraction"))


def random_sample(positives, negatives, others=5, num=16, fraction=0.25, seed=0):
    """Slots of a random order of boxes, as (positive positions, negative ones)."""
    rng = np.random.default_rng(seed)
    matched = np.repeat([4, -1, -2], [positives, negatives, others])
    matched = rng.permutation(matched).astype(np.int32)
    priorities = rng.permutation(len(matched)).astype(np.float32)
    found = sample_jit(matched, priorities, num=num, positive_fraction=fraction)
    return matched, priorities, jax.tree.map(np.asarray, found)


@pytest.mark.parametrize(
    ("positives", "negatives", "expected"),
    [
        (9, 40, (4, 12)),
        (2, 40, (2, 14)),
        (0, 40, (0, 16)),
        (9, 5, (4, 5)),
        (0, 0, (0, 0)),
    ],
)
def test_missing_positives_are_made_up_for_by_background(
    positives, negatives, expected
):
    matched, priorities, found = random_sample(positives, negatives)
    assert found.index.shape == (16,)
    first, second = expected
    np.testing.assert_array_equal(found.positive, np.arange(16) < first)
    np.testing.assert_array_equal(found.valid, np.arange(16) < first + second)
    chosen = found.index[found.valid]
    assert len(set(chosen)) == first + second
    assert (matched[chosen[:first]] >= 0).all()
    assert (matched[chosen[first:]] == -1).all()
    # In each kind those of the highest priority, the highest first.
    for kind, part in ((matched >= 0, chosen[:first]), (matched == -1, chosen[first:])):
        best = np.sort(priorities[kind])[::-1][: len(part)]
        np.testing.assert_array_equal(priorities[part], best)


def test_positives_never_leave_the_first_slots():
    for positives in (0, 3, 4, 9):
        _, _, found = random_sample(positives, 3)
        assert not found.positive[4:].any()


def test_weights_name_the_same_boxes():
    matched, priorities, found = random_sample(9, 40)
    arguments = {"num": 16, "positive_fraction": 0.25}
    weights = np.asarray(sample_weights(matched, priorities, **arguments))
    np.testing.assert_array_equal(np.flatnonzero(weights), np.sort(found.index))
    assert weights.max() == 1
    matched[:] = -2
    assert not np.asarray(sample_weights(matched, priorities, **arguments)).any()


def test_more_slots_than_boxes_stay_empty():
    matched, _, found = random_sample(2, 3, others=1, num=16, fraction=0.5)
    assert found.valid.sum() == 5
    assert not found.index[5:].any()
    assert set(found.index[:5]) == set(np.flatnonzero(matched > -2))


def test_every_box_of_a_kind_is_as_likely():
    matched = jnp.asarray([0] * 4 + [-1] * 8)
    keys = jax.random.split(jax.random.key(0), 2000)

    def once(key):
        priorities = jax.random.uniform(key, matched.shape)
        return sample_weights(matched, priorities, num=6, positive_fraction=1 / 3)

    fraction = np.asarray(jax.jit(jax.vmap(once))(keys).mean(0))
    np.testing.assert_allclose(fraction, 0.5, atol=0.05)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (
            lambda: match(jnp.ones((3, 4)), **RULES, low_quality=True, valid=ALL[:2]),
            r"iou is \(3, 4\) and valid \(2,\)",
        ),
        (
            lambda: match(
                jnp.ones((3, 4)), high=0.3, low=0.7, low_quality=True, valid=ALL
            ),
            "low is 0.7 and high 0.3",
        ),
        (
            lambda: ignore_crowds(jnp.ones(4, int), jnp.ones((4, 2)), ALL),
            r"inside \(4, 2\) and crowd \(3,\)",
        ),
        (
            lambda: sample(jnp.ones(4, int), jnp.ones(5), num=2, positive_fraction=0.5),
            r"priorities \(5,\)",
        ),
        (
            lambda: sample(jnp.ones(4, int), jnp.ones(4), num=2, positive_fraction=1.5),
            "num is 2 and positive_fraction 1.5",
        ),
    ],
)
def test_what_does_not_fit_is_refused(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
