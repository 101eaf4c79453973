"""Runs that begin with weights from elsewhere, and folders made of them."""

import json
import logging
import runpy
from pathlib import Path

import jax
import ml_collections
import numpy as np
import pytest

from segjax import config as config_lib
from segjax import pretrained
from segjax.data.files.palette import voc_colors
from segjax.data.label_spec import LabelSpec
from segjax.errors import UserError
from segjax.models.builder import build_model
from segjax.pretrained import sources
from segjax.pretrained.published import licence_of
from segjax.runs import file_weights, initialization
from segjax.runs.load import load_trained
from segjax.runs.run_weights import weights_of_run
from segjax.runs.train import train
from segjax.tasks.semantic.task import SemanticTask
from segjax.training import loop
from segjax.training.checkpoints import checkpoint

ROOT = Path(__file__).resolve().parents[2]
SOURCE = "torchvision/alexnet"
LRASPP = "torchvision/lraspp_mobilenet_v3_large"
RANDOM_WEIGHTS = runpy.run_path(str(ROOT / "tests/pretrained/random_weights.py"))


def random_state_dict(source, keep=""):
    """Weights with torchvision's names, those that begin with some word."""
    with np.load(ROOT / "tests/golden/pretrained.npz") as arrays:
        shapes = json.loads(arrays[f"{source} shapes"].tobytes())
    chosen = {k: tuple(v) for k, v in shapes.items() if k.startswith(keep)}
    return RANDOM_WEIGHTS["state_dict"](chosen)


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    """AlexNet's convolutions without its classifier, in a file."""
    path = tmp_path_factory.mktemp("weights") / "alexnet.npz"
    np.savez(path, **random_state_dict(SOURCE, "features"))
    return path


@pytest.fixture
def config(features):
    """FCN on AlexNet, two steps on synthetic images, from that file."""
    config = config_lib.load(str(ROOT / "configs" / "fcn_camvid.py:smoke"))
    backbone = {"name": "alexnet", **pretrained.SOURCES[SOURCE].group}
    config.model = ml_collections.ConfigDict(
        {
            "name": "fcn",
            "num_classes": 5,
            "backbone": backbone,
            "upsampling": "resize",
        }
    )
    config.pipeline.input_size = (96, 96)
    config.data.size = 96
    config.batch_size = 4
    config.schedule = {"name": "constant", "learning_rate": 0.0}
    config.optimizer = {"name": "sgd", "momentum": 0.0}
    config.initialization = {"source": SOURCE, "input": str(features)}
    return config


def kernel_of(params):
    return np.asarray(params["backbone"]["conv3"]["kernel"])


def expected(features):
    with np.load(features) as arrays:
        return arrays["features.6.weight"].transpose(2, 3, 1, 0)


def test_a_run_begins_with_the_weights_that_the_config_names(
    config, features, cache_dir, tmp_path, monkeypatch, caplog
):
    """At a rate of 0 they are still there at the end, and their origin is kept."""
    monkeypatch.setattr(loop, "plot_run", lambda workdir, *_: [workdir])
    with caplog.at_level(logging.INFO, "segjax"):
        train(config, tmp_path, cache_dir)
    assert f"5 modules from {features}; random: score" in caplog.text

    def kept():
        with checkpoint.Checkpoints(tmp_path, read_only=True) as checkpoints:
            task = SemanticTask(config)
            abstract = checkpoint.abstract_like(
                jax.eval_shape(lambda: task.init_state(3)),
                jax.sharding.SingleDeviceSharding(jax.devices()[0]),
            )
            return checkpoints.restore_newest(abstract)

    state, about = kept()
    np.testing.assert_array_equal(kernel_of(state.params), expected(features))
    assert about["initialization"]["source"] == SOURCE
    assert len(about["initialization"]["sha256"]) == 64
    features.rename(features.with_suffix(".away"))  # resuming does not need the file
    try:
        config.num_steps = 3
        train(config, tmp_path, cache_dir)
    finally:
        features.with_suffix(".away").rename(features)
    state, about = kept()
    assert int(state.step) == 3
    assert about["initialization"]["source"] == SOURCE
    # What binds users of the weights binds those of the run, and of what begins with it.
    licence = about["initialization"]["licence"]
    assert licence == licence_of(SOURCE) != ""
    assert weights_of_run(tmp_path, ()).about["licence"] == licence


def read(config, tmp_path, channels=3):
    return initialization.read(config, build_model(config.model), channels, tmp_path)


@pytest.mark.parametrize("wrapper", ["", "module.", "model._orig_mod."])
def test_of_a_classifier_what_has_no_place_is_passed_over(config, wrapper):
    """Dense layers of zeros that share one byte, so that the file's size is none."""
    shapes = {"classifier.1": (4096, 9216), "classifier.6": (1000, 4096)}
    state = random_state_dict(SOURCE, "features")
    for module, shape in shapes.items():
        state[f"{module}.weight"] = np.broadcast_to(np.float32(0), shape)
        state[f"{module}.bias"] = np.broadcast_to(np.float32(0), shape[:1])
    target = file_weights.abstract(build_model(config.model), 3)
    entry = pretrained.SOURCES[SOURCE]
    state = {f"{wrapper}{name}": x for name, x in state.items()}
    state = sources.tensors(entry, sources.unwrapped(entry, state), (), what=SOURCE)
    variables = file_weights.fit(entry, state, target, what=SOURCE)
    assert variables["params"]["backbone"].keys() == {f"conv{i}" for i in range(1, 6)}


ANIMALS = ("background", "Cat", "dog", "stone", "Bird")
SPEC = LabelSpec(ANIMALS, voc_colors(5))


@pytest.fixture
def lraspp(config, tmp_path):
    """LR-ASPP of five classes, from weights for those of VOC; with the weights."""
    state = random_state_dict(LRASPP)
    config.model = ml_collections.ConfigDict(
        pretrained.SOURCES[LRASPP].group_of(state) | {"num_classes": 5}
    )
    np.savez(tmp_path / "a.npz", **state)
    config.initialization = {"source": LRASPP, "input": str(tmp_path / "a.npz")}
    return config, state


def test_weights_of_the_whole_model_need_its_classes(lraspp, tmp_path):
    config, _ = lraspp
    with pytest.raises(UserError) as caught:
        read(config, tmp_path)
    assert "classifier.low_classifier.bias is [21], expected [5]" in str(caught.value)
    assert "config.initialization.classes" in str(caught.value)
    for change in (
        {"skip_mismatch": True},
        {"skip": ("classifier.high_classifier", "classifier.low_classifier")},
    ):
        group = config.initialization.to_dict()
        config.initialization = {**group, "skip": (), "skip_mismatch": False, **change}
        params = read(config, tmp_path).variables["params"]
        assert params.keys() == {"backbone", "project", "scale"}


def test_classes_of_a_head_begin_as_those_that_are_named(lraspp, tmp_path, caplog):
    """Of VOC 0 is background, 3 bird, 8 cat, 12 dog, 16 pottedplant."""
    config, state = lraspp
    config.initialization.classes = (("stone", "pottedplant"),)
    with caplog.at_level(logging.INFO, "segjax"):
        found = initialization.read(
            config, build_model(config.model), 3, tmp_path, label_spec=SPEC
        )
    assert "Cat: cat, dog: dog, stone: pottedplant, Bird: bird" in caplog.text
    head = state["classifier.high_classifier.weight"].transpose(2, 3, 1, 0)
    kernel = found.variables["params"]["logits"]["kernel"]
    np.testing.assert_array_equal(kernel, head[..., [0, 8, 12, 16, 3]])
    config.initialization.classes = (("stones", "pottedplant"),)
    with pytest.raises(UserError, match='Did you mean "stone"'):
        initialization.read(
            config, build_model(config.model), 3, tmp_path / "x", label_spec=SPEC
        )
    assert not (tmp_path / "x").exists()


def test_a_classifier_of_images_has_no_classes_to_begin_with(config, tmp_path):
    config.initialization.classes = ()
    with pytest.raises(UserError, match="of a network that labels pixels"):
        initialization.read(
            config, build_model(config.model), 3, tmp_path, label_spec=SPEC
        )


def test_a_published_file_is_fetched_where_the_config_asks_for_it(
    config, features, tmp_path, monkeypatch
):
    monkeypatch.setattr(
        "segjax.pretrained.downloads.download", {SOURCE: features}.__getitem__
    )
    config.initialization = {"source": SOURCE, "input": "", "download": True}
    found = read(config, tmp_path)
    np.testing.assert_array_equal(
        kernel_of(found.variables["params"]), expected(features)
    )
    assert found.about["input"] == str(features)


def test_images_are_normalised_as_the_weights_want_it(config, tmp_path, caplog):
    config.pipeline.normalization = "range"
    with caplog.at_level(logging.INFO, "segjax"):
        followed = initialization.with_normalization(config, tmp_path)
    assert followed.pipeline.normalization == "imagenet"
    assert config.pipeline.normalization == "range"
    assert 'by "imagenet", as the weights want it, not by "range"' in caplog.text
    config.initialization.keep_normalization = True
    kept = initialization.with_normalization(config, tmp_path)
    assert kept.pipeline.normalization == "range"


def test_images_that_are_not_rgb_are_normalised_as_the_config_says(config, tmp_path):
    config.pipeline.normalization = "range"
    with config.unlocked():
        config.data.channels = 1
    kept = initialization.with_normalization(config, tmp_path)
    assert kept.pipeline.normalization == "range"


def test_a_run_goes_on_with_the_normalisation_that_it_began_with(config, tmp_path):
    """Also one from before weights said how images are normalised."""
    (tmp_path / "checkpoints" / "2").mkdir(parents=True)
    config.pipeline.normalization = "per_image"
    (tmp_path / "config.json").write_text(config_lib.to_json(config))
    config.pipeline.normalization = "range"
    followed = initialization.with_normalization(config, tmp_path)
    assert followed.pipeline.normalization == "per_image"


def test_a_network_that_finds_objects_has_no_classes_to_name(config):
    config.task = "instance"
    config.initialization.classes = ()
    with pytest.raises(UserError, match=r'config\.task is "instance"'):
        initialization.check(config)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"source": "torchvision/alexnets"}, 'Did you mean "torchvision/alexnet"'),
        ({"input": "nowhere.npz"}, "config.initialization.input is nowhere.npz"),
        ({"inputs": "a.npz"}, 'unknown key "inputs"'),
        ({"input": ""}, "config.initialization: give either input or download=True"),
        ({"download": True}, "give either input or download=True"),
        (
            {"source": "caffe/vgg16", "input": "", "download": True},
            "config.initialization.source: The weights of caffe/vgg16 have no address",
        ),
        ({"skip": "fc"}, "config.initialization: skip must be a tuple"),
        ({"classes": "Car"}, "config.initialization: classes must be a tuple of pairs"),
        ({"skip": ("head",)}, 'have no tensor of "head" to skip'),
        ({"source": "torchvision/resnet18"}, "those of torchvision/alexnet"),
    ],
)
def test_a_group_that_cannot_be_is_one_sentence(config, tmp_path, change, sentence):
    config.initialization = {**config.initialization.to_dict(), **change}
    with pytest.raises(UserError) as caught:
        read(config, tmp_path / "run")
    assert sentence in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_images_of_other_channels_do_not_fit(config, tmp_path):
    with pytest.raises(UserError, match=r"features\.0\.weight is \[64, 3, 11, 11\]"):
        read(config, tmp_path, channels=1)


def test_a_model_without_backbone_is_reported(config, tmp_path, smoke):
    config.model = smoke.model
    with pytest.raises(UserError, match=r"config\.model has none"):
        read(config, tmp_path)


@pytest.fixture(scope="module")
def coarse_run(tmp_path_factory, cache_dir, write_run):
    """A run of an FCN without skips."""
    workdir = tmp_path_factory.mktemp("coarse") / "run"
    return write_run(workdir, staged(()), cache_dir=cache_dir)


def staged(skips, **initialization):
    config = config_lib.load(str(ROOT / "configs" / "fcn_camvid.py:smoke"))
    config.model.skips = skips
    config.model.upsampling = "fixed"
    config.model.zero_scores = True
    if initialization:
        group = {"source": "segjax/run", "skip": ()} | initialization
        config.initialization = ml_collections.ConfigDict(group)
    return config


@pytest.mark.slow
def test_a_network_with_a_skip_more_begins_where_the_coarser_one_ended(coarse_run):
    task = SemanticTask(staged(("stage4",), input=str(coarse_run)))
    weights = initialization.read(task.config, task.model, 3, coarse_run / "new")
    trained = load_trained(coarse_run)
    initial = jax.jit(lambda: task.init_state(3))()
    begun = weights.initialize(initial)
    assert begun.params["score"]["kernel"].any()
    assert not begun.params["score_stage4"]["kernel"].any()
    np.testing.assert_array_equal(
        begun.params["score"]["kernel"], trained.variables["params"]["score"]["kernel"]
    )
    assert weights.about["sha256"] == trained.parameters_sha256


def test_a_run_with_more_than_the_network_has_is_refused(coarse_run):
    task = SemanticTask(staged((), input=str(coarse_run)))
    task.config.model.num_classes = 4
    narrow = SemanticTask(task.config)
    with pytest.raises(UserError, match=r"score/kernel .*, here .*skip") as caught:
        initialization.read(narrow.config, narrow.model, 3, coarse_run / "new")
    assert "score/bias (5,), here (4,)" in str(caught.value)
    narrow.config.initialization.skip = ("score",)
    weights = initialization.read(narrow.config, narrow.model, 3, coarse_run / "new")
    assert "score" not in weights.variables["params"]


def test_a_run_says_how_images_are_normalised_and_what_its_classes_are(coarse_run):
    """The command line adds the classes to --continue_from; the rest is as from a file."""
    config = staged(())
    config.pipeline.normalization = "range"
    config.initialization = {"classes": (("stone", "disk"),)}
    config = initialization.continued(config, coarse_run)
    assert config.initialization.skip_mismatch
    followed = initialization.with_normalization(config, coarse_run / "new")
    assert followed.pipeline.normalization == "imagenet"
    trained = load_trained(coarse_run)
    other = trained.label_spec.names[-1]
    config.initialization.classes = (("stone", other),)
    found = initialization.read(
        config, SemanticTask(config).model, 3, coarse_run / "new", label_spec=SPEC
    )
    theirs = trained.variables["params"]["score"]["kernel"]
    kernel = found.variables["params"]["score"]["kernel"]
    np.testing.assert_array_equal(kernel[..., 3], theirs[..., -1])


def test_a_folder_without_a_run_is_refused(tmp_path):
    task = SemanticTask(staged((), input=str(tmp_path / "none")))
    with pytest.raises(UserError, match="none") as caught:
        initialization.read(task.config, task.model, 3, tmp_path)
    assert "config.initialization.input: " in str(caught.value)
    assert "--workdir" not in str(caught.value)  # which is another folder
