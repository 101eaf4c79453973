"""SegFormer of Hugging Face: golden answers, names, and the folder that is saved."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest

from segjax import pretrained
from segjax.data.datasets import ade20k
from segjax.errors import UserError
from segjax.pretrained import convert
from segjax.pretrained.hugging_face import HUGGING_FACE, REPOSITORIES, rename
from segjax.pretrained.source import abstract_variables, build
from segjax.pretrained.sources import opened, tensors
from segjax.runs.imported_experiment import label_spec

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "segformer.npz"
SIZE = (81, 67)
SOURCE = "hf/segformer-b0-ade"
TINY = {"blocks": (1, 1, 1, 1), "features": (4, 8, 10, 16)}


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN) as arrays:
        return dict(arrays)


def stored(golden, key):
    return json.loads(golden[key].tobytes())


def test_logits_are_those_of_transformers(golden, random_weights):
    group = dict(HUGGING_FACE[SOURCE].group)
    group |= {"backbone": group["backbone"] | TINY, "features": 12}
    entry = dataclasses.replace(HUGGING_FACE[SOURCE], group=group)
    state = random_weights.state_dict(stored(golden, "shapes"))
    state = tensors(entry, state, (), what="test")
    model = build(entry.group_of(state), "test")
    variables = convert.convert(state, entry.names, abstract_variables(model))
    options = {"xla_backend_optimization_level": 0}
    apply = jax.jit(
        lambda v, x: model.apply(v, x, train=False)["logits"], compiler_options=options
    )
    flat = np.asarray(apply(variables, random_weights.image(*SIZE))).ravel()
    chosen = np.linspace(0, flat.size - 1, golden["logits"].size).astype(int)
    expected = golden["logits"]
    assert np.std(expected) > 0.05 * np.abs(expected).max()
    assert np.abs(flat[chosen] - expected).max() < 1e-5 * np.abs(expected).max()


def test_names_in_memory_become_those_of_files(golden):
    in_memory, in_files = stored(golden, "shapes"), stored(golden, "names")
    assert sorted(map(rename, in_memory)) == in_files
    assert sorted(map(rename, in_files)) == in_files


@pytest.mark.parametrize("source", [SOURCE, "hf/mit-b0"])
def test_every_module_of_the_network_has_a_name(source):
    entry = HUGGING_FACE[source]
    model = build({**entry.group, "num_classes": 7}, "test")
    leaves = jax.tree_util.tree_leaves_with_path(abstract_variables(model)["params"])
    modules = {"/".join(key.key for key in path[:-1]) for path, _ in leaves}
    assert modules == set(entry.names.values())
    assert len(modules) == len(entry.names)


def test_each_source_states_its_repository():
    assert REPOSITORIES.keys() == HUGGING_FACE.keys() <= pretrained.SOURCES.keys()
    assert REPOSITORIES[SOURCE] == "nvidia/segformer-b0-finetuned-ade-512-512"
    assert REPOSITORIES["hf/segformer-b5-ade"].endswith("b5-finetuned-ade-640-640")
    name = "hf/segformer-b0-cityscapes"
    assert REPOSITORIES[name] == "nvidia/segformer-b0-finetuned-cityscapes-1024-1024"
    assert REPOSITORIES["hf/mit-b5"] == "nvidia/mit-b5"


def saved(folder, **config):
    (folder / "config.json").write_text(
        json.dumps({"model_type": "segformer", **config})
    )
    (folder / "model.safetensors").write_bytes(b"")
    return folder


def test_a_folder_names_its_classes_and_its_file(tmp_path):
    names = {"0": "cell", "1": "border"}
    entry, file = opened(SOURCE, saved(tmp_path, id2label=names, depths=[2, 2, 2, 2]))
    assert entry.class_names == ("cell", "border")
    assert file == tmp_path / "model.safetensors"
    for second in ("LABEL_1", "a\nline", "x" * 1000):
        folder = saved(tmp_path, id2label={"0": "cell", "1": second})
        assert opened(SOURCE, folder)[0].class_names == ()


def test_classes_are_a_data_sets_where_nearly_all_names_are(tmp_path):
    theirs = ["television receiver" if x == "television" else x for x in ade20k.CLASSES]
    assert label_spec(150, tuple(theirs)) == label_spec(150) == ade20k.LABEL_SPEC
    own = tuple(f"kind{i}" for i in range(19))
    assert label_spec(19, own).names == own
    assert label_spec(19).names[11] == "person"


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (
            {"depths": [3, 4, 6, 3]},
            r"config\.json has depths \[3, 4, 6, 3\], and hf/segf",
        ),
        (
            {"sr_ratios": [1, 1, 1, 1]},
            r"has sr_ratios \[1, 1, 1, 1\], and hf/segformer",
        ),
        ({"model_type": "vit"}, r"config\.json does not describe a SegFormer"),
        ({"decoder_hidden_size": 768}, r"has decoder_hidden_size 768, .* has 256"),
        ({"num_channels": 4}, r"has num_channels 4, and .* has 3"),
    ],
)
def test_a_folder_of_another_network_is_refused(tmp_path, config, sentence):
    with pytest.raises(UserError, match=sentence):
        opened(SOURCE, saved(tmp_path, **config))


HALVES = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}


@pytest.mark.parametrize(
    ("prepared", "normalization", "size"),
    [
        ({}, "imagenet", (512, 512)),
        (HALVES | {"size": 256}, "tf", (256, 256)),
        ({"size": {"height": 64, "width": 96}}, "imagenet", (64, 96)),
        ({"do_normalize": False, "do_resize": False}, "range", None),
    ],
)
def test_a_folder_says_how_images_are_prepared(tmp_path, prepared, normalization, size):
    folder = saved(tmp_path)
    (folder / "preprocessor_config.json").write_text(json.dumps(prepared))
    entry, _ = opened(SOURCE, folder)
    assert (entry.normalization, entry.input_size) == (normalization, size)
    of_whole_images, _ = opened("hf/segformer-b0-cityscapes", folder)
    assert of_whole_images.input_size is None


@pytest.mark.parametrize(
    ("prepared", "sentence"),
    [
        ({"image_mean": [0.1, 0.2, 0.3]}, r"mean \[0\.1, 0\.2, 0\.3\].* none of segj"),
        ({"image_std": "none"}, r"deviation none .* none of segjax's ways"),
        ({"rescale_factor": 1}, r"factor 1, which is none"),
        ({"size": {"shortest_edge": 512}}, r"not a height and a width"),
        ([], r"does not say how images are prepared"),
    ],
)
def test_images_that_are_prepared_in_a_way_of_their_own_are_refused(
    tmp_path, prepared, sentence
):
    folder = saved(tmp_path)
    (folder / "preprocessor_config.json").write_text(json.dumps(prepared))
    with pytest.raises(UserError, match=sentence):
        opened(SOURCE, folder)


def test_a_folder_that_lacks_a_file_names_both_and_the_repository(tmp_path):
    with pytest.raises(
        UserError, match=r"not both config\.json and .*nvidia/segformer-b0"
    ):
        opened(SOURCE, tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match=r"not both config\.json"):
        opened(SOURCE, tmp_path)
