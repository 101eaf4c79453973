"""The package of examples/, by every verb; and networks of one's own that do not fit."""

import json
import sys
from pathlib import Path

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest
import tifffile

from segjax import config as config_lib
from segjax.errors import UserError
from segjax.tasks.table import make_task

FOLDER = Path(__file__).resolve().parent.parent / "examples" / "own_package"
PACKAGE = "own_package"
CONFIG = f"{FOLDER}/config.py:smoke"
LEAVE = f"--allow_code={PACKAGE}"


def imported():
    return {name for name in sys.modules if name.split(".")[0] == PACKAGE}


@pytest.fixture
def own(monkeypatch):
    """Makes the package one that can be imported and has not been; gives a way to forget it."""

    def forget():
        for name in imported():
            del sys.modules[name]

    monkeypatch.syspath_prepend(str(FOLDER))
    forget()
    yield forget
    forget()


@pytest.mark.slow
def test_a_package_of_ones_own_goes_through_every_verb(main, own, tmp_path):
    run, model, image = (str(tmp_path / x) for x in ("run", "own.segjax", "a.tif"))
    tifffile.imwrite(
        image, np.random.default_rng(0).integers(0, 255, (40, 48), "uint8")
    )
    train = ("train", f"--config={CONFIG}", f"--workdir={run}")
    predict = (f"--input={image}", f"--output={tmp_path / 'labels'}")

    assert main(*train).code == 0
    resumed = main(*train, "--config.num_steps=3")
    assert resumed.code == 0, resumed.stderr
    assert "Resuming at step 2" in resumed.stderr
    assert json.loads(resumed.stdout.splitlines()[-1])["step"] == 3

    own()
    for verb in (
        ("evaluate", run),
        ("predict", run, *predict),
        ("export", run, model),
        ("report", run),
        ("tune", "instances", run),
        ("train", f"--continue_from={run}", f"--workdir={tmp_path / 'more'}"),
    ):
        refused = main(*verb)
        assert refused.code == 1
        assert LEAVE in refused.sentence
        assert imported() == set()

    assert main("predict", run, *predict, LEAVE).code == 0
    assert imported() == {PACKAGE, f"{PACKAGE}.nets"}
    evaluated = main("evaluate", run, LEAVE)
    found = json.loads(evaluated.stdout.splitlines()[-1])
    assert found["step"] == 3
    assert {"area_error", "brier", "loss"} <= found.keys()
    # The loss of this package is the Brier score of each image, weighted by its pixels.
    assert found["brier"] == pytest.approx(found["loss"], rel=1e-5)
    parts = ("nets", "data", "metrics", "losses")
    assert imported() == {PACKAGE, *(f"{PACKAGE}.{part}" for part in parts)}
    assert main("export", run, model, LEAVE).code == 0

    own()
    assert LEAVE in main("predict", f"--model={model}", *predict).sentence
    assert imported() == set()
    assert main("predict", f"--model={model}", *predict, LEAVE, "--overwrite").code == 0
    more = f"--workdir={tmp_path / 'more'}"
    begun = main("train", f"--continue_from={model}", more, LEAVE)
    assert begun.code == 0, begun.stderr


def test_summary_says_what_is_known(main, own):
    ended = main("summary", f"--config={CONFIG}")
    assert ended.code == 0, ended.stderr
    assert "32x32x1 -> 32x32x2" in ended.stdout
    assert "not known: the network has no `layers()`" in ended.stdout


class Wrong(nn.Module):
    """A network that does not fit, each kind in another way."""

    num_classes: int
    kind: str

    @nn.compact
    def __call__(self, image, *, train):
        if self.kind == "fails":
            raise RuntimeError("my own words")
        if self.kind == "array":
            return image
        if self.kind == "names":
            return {"scores": image}
        if self.kind == "size":
            image = image[:, ::2]
        if self.kind == "stride" and image.shape[1] % 32:
            raise ValueError("sides are multiples of 32")
        return {
            "logits": nn.Conv(self.num_classes + (self.kind == "classes"), (1, 1))(
                image
            )
        }


def vector(outputs, batch):
    return jnp.sum(outputs["logits"], axis=(1, 2, 3))


def picky(outputs, batch):
    return outputs["features"].sum()


def reshaped(example, rng):
    return example | {"image": example["image"][:-1]}


def opened(**groups):
    config = config_lib.load(CONFIG)
    for group, values in groups.items():
        for key, value in values.items():
            with config.unlocked():
                config[group][key] = value
    return make_task(config).open_dataset(None, None)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (
            "fails",
            r"fails on images of \[1, 32, 32, 1\]: RuntimeError: my own words \(.*line",
        ),
        ("array", r"gives 'float32 \[1, 32, 32, 1\]'; a network|gives .*a dict with"),
        ("names", r"gives \['scores'\]"),
        ("size", r"whose logits are float32 \[1, 16, 32, 2\], but the labels want"),
        ("classes", r"whose logits are float32 \[1, 32, 32, 3\]"),
    ],
)
def test_a_network_that_does_not_fit_is_refused_before_the_first_step(
    own, monkeypatch, kind, words
):
    monkeypatch.setitem(sys.modules, "own_wrong", sys.modules[__name__])
    group = {"name": "own_wrong:Wrong", "num_classes": 2, "kind": kind}
    with pytest.raises(UserError, match=words):
        opened(model=group)


def test_sizes_that_are_evaluated_are_tried_before_the_first_step(own, monkeypatch):
    monkeypatch.setitem(sys.modules, "own_wrong", sys.modules[__name__])
    group = {"name": "own_wrong:Wrong", "num_classes": 2, "kind": "stride"}
    with pytest.raises(UserError, match=r"\[1, 40, 40, 1\].* give it a `geometry`"):
        opened(model=group, data={"size": 40})


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ({"loss": {"name": "own_wrong:vector"}}, r"gives float32 \[4\]: a loss is one"),
        (
            {"loss": {"name": "own_wrong:picky"}},
            r"config\.loss\.name .*KeyError: 'features'",
        ),
        (
            {"optimizer": {"name": "own_wrong:vector"}},
            "neither schedule nor learning_rate",
        ),
        ({"data": {"name": "builtins:dict"}}, "arguments Python cannot tell"),
    ],
)
def test_other_parts_that_do_not_fit_are_refused(own, monkeypatch, groups, words):
    monkeypatch.setitem(sys.modules, "own_wrong", sys.modules[__name__])
    with pytest.raises(UserError, match=words):
        opened(**groups)


def test_an_augmentation_must_keep_shapes(own, monkeypatch):
    from segjax.data.augment import augmentations

    monkeypatch.setitem(sys.modules, "own_wrong", sys.modules[__name__])
    example = {"image": np.zeros((4, 4, 1), np.float32), "label": np.zeros((4, 4))}
    rng = np.random.default_rng(0)
    with pytest.raises(UserError, match=r"gives 'image' as \(\(3, 4, 1\)"):
        augmentations.apply((("own_wrong:reshaped", {}),), example, rng)
    changed = augmentations.apply(
        ((f"{PACKAGE}.augment:invert", {"probability": 1.0}),),
        example | {"image": example["image"] + 1},
        rng,
    )
    assert (changed["image"] == -1).all()
