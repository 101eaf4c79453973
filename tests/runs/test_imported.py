"""Networks that others have trained, as runs: their experiments, and detectors at work."""

from __future__ import annotations

import hashlib
import json
import runpy
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

from segjax import config as config_lib
from segjax.errors import UserError
from segjax.pretrained import SOURCES, smp
from segjax.pretrained.convert import LEAVES
from segjax.pretrained.source import abstract_variables, build
from segjax.runs import file_weights
from segjax.runs import imported as imported_module
from segjax.runs.imported_experiment import experiment, label_spec
from segjax.runs.load import load_trained
from segjax.tasks.table import make_task

TESTS = Path(__file__).resolve().parents[1]
IMPORTED = sorted(name for name, entry in SOURCES.items() if not entry.is_backbone)
MASK = "torchvision/maskrcnn_resnet50_fpn"


def shapes_of(source: str) -> dict[str, tuple[int, ...]]:
    """The names and shapes of torchvision's tensors; of others the head alone."""
    if not source.startswith("torchvision/"):
        classes = {"cityscapes": 19, "ade": 150}.get(source.rpartition("-")[2], 21)
        if "edgetpu" in source:
            classes = 19
        return {f"{SOURCES[source].classifier[0]}.bias": (classes,)}
    detector = SOURCES[source].group["name"] == "mask_rcnn"
    file = "instances.npz" if detector else "pretrained.npz"
    with np.load(TESTS / "golden" / file) as arrays:
        text = arrays[f"{source} shapes"].tobytes().decode()
    return {name: tuple(shape) for name, shape in json.loads(text).items()}


def imported(source: str):
    zero = np.float32(0)
    state = {name: np.broadcast_to(zero, x) for name, x in shapes_of(source).items()}
    entry = SOURCES[source]
    group = entry.group_of(state)
    return experiment(group, entry.normalization, entry.input_size)


@pytest.mark.quick(20)
@pytest.mark.parametrize("source", IMPORTED)
def test_the_experiment_of_each_source_builds_and_comes_back_from_its_file(source):
    made = imported(source)
    task = make_task(config_lib.from_json(config_lib.to_json(made.config)))
    assert task.model.num_classes == made.label_spec.num_classes
    finds_objects = SOURCES[source].group["name"] == "mask_rcnn"
    assert (made.instances is not None) == finds_objects
    if finds_objects:
        persons = "keypointrcnn" in source
        last = "person" if persons else "toothbrush"
        assert made.label_spec.names[-1] == last
        expected = "keypoint_AP" if persons else "mask_AP"
        if "fasterrcnn" in source:
            expected = "box_AP"
        assert task.evaluation.best_metric == expected
    else:
        person = {19: 11, 150: 12}.get(made.label_spec.num_classes, 15)
        assert made.label_spec.names[person] == "person"
        assert task.refinement().sigma_alpha == 49


@pytest.mark.parametrize("source", [x for x in IMPORTED if "rcnn" in x])
def test_a_detector_is_evaluated_on_annotations_of_coco(source, shared_data):
    made = imported(source)
    if made.config.data.get("keypoints"):
        file, images = "annotations/person_keypoints.json", "images"
    else:
        file, images = "annotations/instances.json", "images"
    made.config.data.update(
        {"train": file, "validation": file, "train_images": images}
        | {"validation_images": images, "allow_unlisted": True}
    )
    made.config.pipeline.buckets = ((64, 64),)
    root = str(shared_data / "coco_mini")
    dataset = make_task(made.config).open_dataset(None, root)
    assert dataset.label_spec == made.label_spec
    assert dataset.instances.category_ids == made.instances.category_ids
    points = [
        x.keypoints and x.keypoints.names for x in (dataset.instances, made.instances)
    ]
    assert points[0] == points[1]


def test_the_size_that_weights_were_made_for_is_a_setting():
    source = "tflite/deeplabv3_mnv2_pascal"
    for given, expected in (("file", (513, 513)), (None, None), ((65, 97), (65, 97))):
        made = imported(source)
        imported_module._set_input_size(made.config, SOURCES[source], given)
        task = make_task(config_lib.from_json(config_lib.to_json(made.config)))
        assert task.evaluation.passes.size == expected
    with pytest.raises(
        UserError, match="--input_size is for networks that label pixels"
    ):
        imported_module._set_input_size(imported(MASK).config, SOURCES[MASK], (9, 9))


def test_what_would_be_overwritten_is_reported_before_weights_are_read(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(imported_module, "read_state", None)
    arguments = (MASK, tmp_path / "weights.npz", tmp_path)
    (tmp_path / "config.json").write_text("mine")
    with pytest.raises(UserError, match=r"config\.json would be .* or --overwrite to"):
        imported_module.import_weights(*arguments)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "checkpoints").symlink_to("elsewhere")
    with pytest.raises(UserError, match="checkpoints is a link"):
        imported_module.import_weights(*arguments, overwrite=True)
    assert (tmp_path / "config.json").read_text() == "mine"


def test_of_two_imports_into_one_folder_at_a_time_the_later_one_stops(
    tmp_path, monkeypatch
):
    source = "torchvision/lraspp_mobilenet_v3_large"
    zero = np.float32(0)
    np.savez(
        tmp_path / "w.npz",
        **{name: np.broadcast_to(zero, x) for name, x in shapes_of(source).items()},
    )
    run = tmp_path / "run"

    def meanwhile(path):
        (run / "checkpoints/0").mkdir(parents=True)
        return "0"

    monkeypatch.setattr(file_weights, "file_sha256", meanwhile)
    with pytest.raises(UserError, match="holds a run already"):
        imported_module.import_weights(source, tmp_path / "w.npz", run)
    assert not (run / "config.json").exists()
    assert list((run / "checkpoints").rglob("*")) == [run / "checkpoints/0"]


def foreign(entry, num_classes, random_weights):
    """A state dict as a source names it, made of our network's shapes."""
    model = build({**entry.group, "num_classes": num_classes}, "test")
    modules = {ours: theirs for theirs, ours in entry.names.items()}
    shapes = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(abstract_variables(model)):
        *ours, name = (key.key for key in path[1:])
        shape = leaf.shape if leaf.ndim < 4 else [leaf.shape[i] for i in (3, 2, 0, 1)]
        shapes[f"{modules['/'.join(ours)]}.{LEAVES[name]}"] = tuple(shape)
    return random_weights["state_dict"](shapes)


def test_one_logit_is_read_by_a_sigmoid_also_in_the_folder_that_smp_saves(
    main, tmp_path
):
    source = "smp/pspnet-mobilenet_v2"
    config = {"_model_class": "PSPNet", "encoder_name": "mobilenet_v2"}
    config |= {"psp_out_channels": 6, "classes": 1}
    (tmp_path / "config.json").write_text(json.dumps(config))
    entry = smp.source("pspnet-mobilenet_v2", {"psp_out_channels": 6})
    random_weights = runpy.run_path(str(TESTS / "pretrained/random_weights.py"))
    state = foreign(entry, 1, random_weights)
    file = tmp_path / "model.safetensors"
    # Saved by a wrapper, as Lightning does.
    safetensors.numpy.save_file({f"model.{name}": x for name, x in state.items()}, file)
    run = tmp_path / "run"
    arguments = ("import", f"--source={source}", f"--workdir={run}")
    ended = main(*arguments, f"--weights={tmp_path}")
    assert ended.code == 0, ended.stderr
    assert ended.stderr.count('removed the prefix "model." from all names') == 1
    result = json.loads(ended.stdout)
    assert result["num_classes"] == 1
    assert result["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    config = json.loads((run / "config.json").read_text())
    assert (config["head"], config["model"]["features"]) == ("sigmoid", 6)
    task = make_task(config_lib.from_json(json.dumps(config)))
    assert task.head.num_classes == 2

    (tmp_path / "config.json").write_text(json.dumps({"_model_class": "Linknet"}))
    again = main(*arguments[:2], f"--workdir={run}2", f"--weights={tmp_path}")
    assert again.code == 1
    assert "is of Linknet with the encoder" in again.stderr
    assert not Path(f"{run}2").exists()


@pytest.mark.parametrize("source", [x for x in IMPORTED if "rcnn" in x])
def test_the_epsilon_of_an_imported_detector_is_in_its_config(source):
    config = imported(source).config
    wanted = None if source.endswith("_v2") else 0.0
    assert config.model.backbone.norm.get("epsilon") == wanted
    config.model.backbone.norm.epsilon = 1e-5
    assert make_task(config).model.backbone.norm.epsilon == 1e-5


def test_classes_without_names_have_numbers():
    assert label_spec(2).names == ("class0", "class1")


@pytest.mark.slow
def test_an_imported_detector_finds_objects_and_names_them(main, tmp_path):
    random_weights = TESTS / "pretrained"
    state = runpy.run_path(str(random_weights / "random_weights.py"))["state_dict"](
        shapes_of(MASK)
    )
    calmed = runpy.run_path(str(random_weights / "random_instances.py"))["calmed"]
    safetensors.numpy.save_file(calmed(state), tmp_path / "weights.safetensors")
    run = f"--workdir={tmp_path / 'run'}"
    file = f"--weights={tmp_path / 'weights.safetensors'}"
    ended = main("import", f"--source={MASK}", file, run)
    assert ended.code == 0, ended.stderr
    result = json.loads(ended.stdout)
    assert (result["model"], result["parameters"]) == ("mask_rcnn", 44_454_513)

    # The paper's buckets take half a minute on two cores.
    path = tmp_path / "run/config.json"
    config = json.loads(path.read_text())
    config["pipeline"]["buckets"] = [[128, 160]]
    path.write_text(json.dumps(config))
    trained = load_trained(tmp_path / "run")
    assert trained.label_spec.names[18] == "dog"

    pixels = np.random.default_rng(0).integers(0, 256, (96, 120, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    out = tmp_path / "out"
    ended = main(
        "predict", run, f"--input={tmp_path / 'a.png'}", f"--output={out}", "--overlay"
    )
    assert ended.code == 0, ended.stderr
    assert np.asarray(Image.open(out / "a.png")).shape == (96, 120)
    assert (out / "a_overlay.png").is_file()
    found = json.loads((out / "results.json").read_text())
    assert found
    assert {one["category_id"] for one in found} <= set(range(1, 91))
