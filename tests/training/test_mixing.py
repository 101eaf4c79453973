"""Mixing the examples of a batch, against what the papers say."""

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from segjax.errors import UserError
from segjax.losses import LOSSES
from segjax.runs.train import train
from segjax.training import loop, sharding
from segjax.training.mixing import cutmix, mix_from, mixed, mixup, over_labels
from segjax.types import IGNORE_LABEL

KEY = jax.random.key(3)
LION = {"name": "optax:lion", "weight_decay": 1e-2, "accumulate": 2, "clip_norm": 1.0}


def batch(size=4, seed=0):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 3, (size, 8, 8)).astype(np.int32)
    label[0, :2] = IGNORE_LABEL
    return {
        "image": jnp.asarray(rng.normal(size=(size, 12, 12, 2)).astype(np.float32)),
        "label": jnp.asarray(label),
        "weight": jnp.asarray(rng.random((size, 8, 8)).astype(np.float32)),
        "record": jnp.arange(size),
    }


def test_mixup_blends_neighbours_by_one_fraction():
    given = batch()
    found = mixup(KEY, given, alpha=1.0)
    fraction = float(found["other_fraction"])
    assert 0 < fraction < 1
    expected = (1 - fraction) * given["image"] + fraction * jnp.roll(
        given["image"], -1, 0
    )
    np.testing.assert_allclose(found["image"], expected, rtol=1e-5, atol=1e-6)
    assert (found["label"] == given["label"]).all()
    assert (found["other_label"] == jnp.roll(given["label"], -1, 0)).all()


def test_mixup_is_sampled_from_the_beta_distribution():
    keys = jax.random.split(KEY, 2000)
    fractions = jax.vmap(lambda key: mixup(key, batch(2), alpha=2.0)["other_fraction"])(
        keys
    )
    assert float(fractions.mean()) == pytest.approx(0.5, abs=0.03)
    assert float(fractions.var()) == pytest.approx(
        1 / 20, rel=0.15
    )  # 1 / (4 (2 a + 1))


def test_the_loss_of_both_labels_is_that_of_blended_one_hot_labels():
    given = batch()
    given = given | {"label": given["label"] % 3, "weight": jnp.ones((4, 8, 8))}
    found = mixup(KEY, given, alpha=1.0)
    logits = jax.random.normal(jax.random.key(1), (4, 8, 8, 3))
    loss = over_labels(LOSSES["cross_entropy"])({"logits": logits}, found)
    one, other = (jax.nn.one_hot(found[x], 3) for x in ("label", "other_label"))
    f = found["other_fraction"]
    soft = (1 - f) * one + f * other
    expected = -(soft * jax.nn.log_softmax(logits)).sum(-1).mean()
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)


def test_each_label_leaves_out_its_own_ignored_pixels():
    given = batch() | {"weight": jnp.ones((4, 8, 8))}
    found = mixup(KEY, given, alpha=1.0)
    logits = jnp.zeros(
        (4, 8, 8, 3)
    )  # each pixel that counts costs log 3, whoever it is
    loss = over_labels(LOSSES["cross_entropy"])({"logits": logits}, found)
    assert float(loss) == pytest.approx(np.log(3), rel=1e-5)


def test_without_chance_the_batch_and_its_loss_stay():
    given = batch()
    found = mixup(KEY, given, probability=0.0)
    assert (found["image"] == given["image"]).all()
    logits = {"logits": jax.random.normal(KEY, (4, 8, 8, 3))}
    loss = LOSSES["cross_entropy"]
    assert float(over_labels(loss)(logits, found)) == float(loss(logits, given))
    same = cutmix(KEY, given, probability=0.0)
    assert all((same[key] == given[key]).all() for key in given)


def test_cutmix_takes_pixels_with_their_label_and_weight():
    """In a batch whose arrays all hold the number of the example, they move as one."""
    number = jnp.arange(4)[:, None, None]
    given = {
        "image": jnp.broadcast_to(number[..., None], (4, 12, 12, 2)) * 1.0,
        "label": jnp.broadcast_to(number, (4, 8, 8)),
        "weight": jnp.broadcast_to(number, (4, 8, 8)) * 1.0,
    }
    found = cutmix(KEY, given, probability=1.0)
    inner = np.asarray(found["image"])[:, 2:-2, 2:-2, 0]
    assert (inner == found["label"]).all()
    assert (inner == found["weight"]).all()
    for i in range(4):
        assert set(np.unique(inner[i])) <= {i, (i + 1) % 4}
        rows, columns = np.nonzero(inner[i] != i)
        if len(rows):  # a box without holes
            assert len(rows) == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)


def test_boxes_are_cut_by_the_border_of_the_image():
    """With alpha 1 the area s^2 is uniform; of a side s, s - s^2 / 4 is left on average."""
    image = jnp.stack([jnp.zeros((64, 64, 1)), jnp.ones((64, 64, 1))])
    given = {"image": image, "label": image[..., 0], "weight": image[..., 0]}
    keys = jax.random.split(KEY, 400)
    covered = jax.vmap(lambda k: cutmix(k, given, probability=1.0)["image"][0].mean())(
        keys
    )
    s = np.sqrt((np.arange(1000) + 0.5) / 1000)
    assert float(covered.mean()) == pytest.approx(
        ((s - s**2 / 4) ** 2).mean(), abs=0.03
    )


def test_sharded_batches_are_mixed_as_whole_ones():
    devices = sharding.Devices.of_this_process()
    given = {key: np.asarray(x) for key, x in batch(2 * devices.count).items()}
    for mix in (mixup, cutmix):
        whole = jax.jit(mix)(KEY, given)
        parts = jax.jit(mix)(KEY, jax.device_put(given, devices.batch))
        for key, expected in whole.items():
            np.testing.assert_allclose(parts[key], expected, rtol=1e-6, atol=1e-6)


def config(**mix):
    return ml_collections.ConfigDict({"batch_size": 4, "mix": mix})


def shapes(size=4):
    return jax.eval_shape(lambda: batch(size))


def halved(key, batch):
    return batch | {"image": batch["image"][:1]}


def test_a_step_mixes_the_same_again_and_another_step_otherwise():
    mix = mix_from(config(name="cutmix", probability=1.0), shapes())
    first, again, other = (
        mixed(mix, batch(), seed=0, step=step)["image"] for step in (5, 5, 6)
    )
    assert (first == again).all()
    assert not (first == other).all()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "mixpu"}, "mixup"),
        ({"name": "mixup", "alhpa": 1.0}, "alpha"),
        ({"name": "cutmix", "alpha": 0.0}, "alpha must be"),
        ({"name": f"{__name__}:halved"}, "does not give 'image'"),
        ({"name": f"{__name__}:config"}, "fails: TypeError"),
    ],
)
def test_what_cannot_be_mixed_is_named(given, message):
    with pytest.raises(UserError, match=message):
        mix_from(config(**given), shapes())


def test_one_example_cannot_be_mixed():
    alone = config(name="mixup")
    alone.batch_size = 1
    with pytest.raises(UserError, match="at least 2"):
        mix_from(alone, shapes(1))


def test_a_run_that_mixes_resumes_bit_for_bit(smoke, cache_dir, tmp_path, monkeypatch):
    """mixup on the device, copy_paste and rand_augment in the loader, label smoothing, Lion.

    It stops in the middle of what is accumulated.
    """
    monkeypatch.setattr(loop, "plot_run", lambda workdir, *_: [workdir])
    smoke.mix = {"name": "mixup", "alpha": 1.0}
    smoke.loss = {"name": "cross_entropy", "label_smoothing": 0.1}
    smoke.pipeline.augment = (("rand_augment", {}), ("flip", {}), ("copy_paste", {}))
    smoke.optimizer = ml_collections.ConfigDict(LION)
    smoke.schedule = {"name": "constant", "learning_rate": 1e-3}
    smoke.evaluation.cell_class = None
    smoke.evaluation.best_metric = "mean_iou"
    smoke.checkpoint_every = smoke.eval_every = 2
    smoke.num_steps = 4
    straight = train(smoke, tmp_path / "straight", cache_dir)
    smoke.num_steps = 1
    halfway = train(smoke, tmp_path / "resumed", cache_dir)
    smoke.num_steps = 4
    resumed = train(smoke, tmp_path / "resumed", cache_dir)
    assert halfway.parameters_sha256 != straight.parameters_sha256
    assert resumed.parameters_sha256 == straight.parameters_sha256
