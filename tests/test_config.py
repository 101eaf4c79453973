"""Configs: loading, checking, overriding, comparing, storing, building."""

import json

import ml_collections
import pytest

from segjax import config as config_lib
from segjax.errors import UserError


def write(path, body):
    path.write_text(f"import ml_collections\n\n\ndef get_config(preset=''):\n{body}\n")
    return str(path)


def test_a_preset_comes_after_a_colon(tmp_path):
    file = write(
        tmp_path / "a.py", "    return ml_collections.ConfigDict({'x': preset})"
    )
    assert config_lib.load(file).x == ""
    assert config_lib.load(f"{file}:b").x == "b"


def test_presets_have_the_names_of_their_functions_or_are_named(tmp_path):
    (tmp_path / "a.py").write_text(
        "from segjax.config import presets\n"
        "def first(): return {'x': 1}\n"
        "def second(): return {'x': 2}\n"
        "get_config = presets(first, second, **{'3d': lambda: {'x': 3}})\n"
    )
    file = str(tmp_path / "a.py")
    found = [config_lib.load(file + preset).x for preset in ("", ":second", ":3d")]
    assert found == [1, 2, 3]
    sentence = r'no preset "first" \(\+bf16 may follow one\); known: 3d, second'
    for preset in ("first", "first+bf16"):
        with pytest.raises(UserError, match=sentence):
            config_lib.load(f"{file}:{preset}")


@pytest.mark.parametrize("preset", ["", "resnet101", "smoke"])
def test_a_preset_in_bfloat16_differs_in_the_dtype_of_networks_alone(preset):
    name = f"configs/deeplab_v3plus_voc.py:{preset}"
    plus = "+bf16" if preset else "bf16"
    plain, half = config_lib.load(name), config_lib.load(name + plus)
    changed = "was 'float32', now 'bfloat16'"
    assert config_lib.differences(plain, half) == {
        "model.dtype": changed,
        "model.backbone.dtype": changed,
    }


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("    return 1 / 0", "ZeroDivisionError"),
        ("    raise ValueError('no preset')", r"--config=.*a\.py: no preset\.$"),
        ("    return (", "SyntaxError"),
    ],
)
def test_a_config_that_fails_is_one_sentence(tmp_path, body, sentence):
    file = write(tmp_path / "a.py", body)
    with pytest.raises(UserError, match=sentence) as caught:
        config_lib.load(file)
    assert "\n" not in str(caught.value)


def test_a_file_without_get_config_is_named(tmp_path):
    (tmp_path / "a.py").write_text("x = 1\n")
    with pytest.raises(UserError, match=r"a\.py cannot be used.*get_config"):
        config_lib.load(str(tmp_path / "a.py"))


def test_a_missing_file_is_named():
    with pytest.raises(
        UserError, match=r"there is no file configs/no\.py, and no experiment"
    ):
        config_lib.load("configs/no.py:smoke")


@pytest.mark.parametrize("key", list(config_lib.KEYS))
def test_each_key_has_to_be_there(smoke, key):
    del smoke[key]
    with pytest.raises(UserError, match=f'lacks the key "{key}"'):
        config_lib.check(smoke)


@pytest.mark.parametrize("seed", [-1, 2**32, 0.5, True])
def test_the_seed_has_32_bits(smoke, seed):
    with smoke.ignore_type():
        smoke.seed = seed
    with pytest.raises(UserError, match=f"config.seed must be an integer .*got {seed}"):
        config_lib.check(smoke)


def test_other_keys_are_refused(smoke):
    smoke.batchsize = 3
    with pytest.raises(UserError, match=r'"batchsize"\. Did you mean "batch_size"'):
        config_lib.check(smoke)


@pytest.mark.parametrize("key", ["num_steps", "batch_size", "checkpoint_every"])
@pytest.mark.parametrize("value", [0, -1, 1.5, 2**31])
def test_counts_are_whole_and_positive(smoke, key, value):
    with smoke.ignore_type():
        smoke[key] = value
    sentence = f"config.{key} must be an integer from 1 to 2147483647, got {value}"
    with pytest.raises(UserError, match=sentence):
        config_lib.check(smoke)


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        ("modle.features", 'config has no key "modle". Did you mean "model"'),
        ("model.featurs", 'config.model has no key "featurs". Did you mean "features"'),
        ("batch_size.x", "config.batch_size is a value, not a group"),
        ("model", "--config.model is a group"),
    ],
)
def test_overrides_are_checked(smoke, key, sentence):
    with pytest.raises(UserError, match=sentence.replace(".", r"\.")):
        config_lib.check_overrides(smoke, [key])


def test_good_overrides_pass(smoke):
    config_lib.check_overrides(smoke, ["batch_size", "model.features"])


def test_what_is_none_in_a_config_can_be_set_where_its_type_is_known(main, smoke):
    config = config_lib.load("configs/unet_folder.py:smoke")
    assert config.data.ignore is None
    config_lib.check_overrides(config, ["data.ignore"])
    assert config_lib.from_json(config_lib.to_json(config)).data.ignore is None
    for key in ("data.ignore=-1", "data.ignore=255"):
        ended = main(
            "summary", "--config=configs/unet_folder.py:smoke", f"--config.{key}"
        )
        assert ended.code == 0, ended.stderr
    smoke.data.extra = None
    with pytest.raises(UserError, match=r"config\.data\.extra is None .*placeholder"):
        config_lib.check_overrides(smoke, ["data.extra"])


@pytest.mark.parametrize("file", ["unet_folder", "unet_nuclei"])
@pytest.mark.parametrize(
    ("given", "count"), [("('DAPI','GFP')", 2), ("(0,2,1,5)", 4), ("5", 5)]
)
def test_channels_are_named_or_counted_on_the_command_line(main, file, given, count):
    asked = ("--json", f"--config.data.channels={given}")
    ended = main("summary", f"--config=configs/{file}.py:smoke", *asked)
    assert json.loads(ended.stdout)["input_size"][-1] == count


def test_json_keeps_tuples_and_all_values(smoke):
    again = config_lib.from_json(config_lib.to_json(smoke))
    assert again.to_dict() == smoke.to_dict()
    assert isinstance(again.model.features, tuple)
    assert isinstance(again.pipeline.augment[0], tuple)


def test_differences_name_keys_and_both_values(smoke):
    other = config_lib.from_json(config_lib.to_json(smoke))
    assert config_lib.differences(smoke, other) == {}
    other.model.features = (4, 8, 16)
    other.loss.dice_weight = 2.0
    del other.evaluation["cell_class"]
    assert config_lib.differences(smoke, other) == {
        "model.features": "was (4, 8), now (4, 8, 16)",
        "loss.dice_weight": "was not set, now 2.0",
        "evaluation.cell_class": "was 1, now not set",
    }


def test_suggestions_are_close_or_all():
    assert config_lib.suggestion("trian", ["train", "predict"]) == (
        ' Did you mean "train"?'
    )
    assert config_lib.suggestion("xyz", ["b", "a"]) == " Known: a, b."


def half(*, x, scale=0.5):
    if x < 0:
        raise ValueError(f"x must be >= 0, got {x}")
    return x * scale


def test_an_argument_is_the_groups_or_the_functions_default():
    assert config_lib.argument(half, {"scale": 2}, "scale") == 2
    assert config_lib.argument(half, {"x": 1}, "scale") == 0.5


TABLE = {"half": half}


def group(**values):
    return ml_collections.ConfigDict({"name": "half"} | values)


def test_groups_are_built_by_name():
    assert config_lib.build(TABLE, group(x=3), "config.thing") == 1.5
    assert config_lib.build(TABLE, group(scale=2), "config.thing", x=4) == 8


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"name": "hlaf"}, "config.thing.name is 'hlaf'.*\"half\""),
        ({"x": 1, "scael": 2}, 'config.thing has an unknown key "scael".*"scale"'),
        ({}, 'config.thing lacks the key "x"'),
        ({"x": -1}, "config.thing: x must be >= 0, got -1"),
        ({"x": "a"}, "config.thing: '<' not supported between"),
    ],
)
def test_what_cannot_be_built_names_the_key(values, sentence):
    with pytest.raises(UserError, match=sentence):
        config_lib.build(TABLE, group(**values), "config.thing")


def test_what_is_no_group_is_one_sentence():
    with pytest.raises(UserError, match=r"config\.thing is 'yes'; it must be a group"):
        config_lib.call(TABLE["half"], "yes", "config.thing")


def test_what_the_program_gives_cannot_be_given_by_the_config():
    with pytest.raises(UserError, match='unknown key "x"'):
        config_lib.build(TABLE, group(x=1), "config.thing", x=2)


DEEP = {"name": "unet", "num_classes": 2, "features": (4,) * 300, "padding": "SAME"}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"loss": {"name": {}}}, r"config\.loss\.name is"),
        ({"task": {}}, r"config\.task is"),
        ({"optimizer": "sgd"}, r"config\.optimizer is 'sgd'; it must be a group"),
        ({"evaluation": ()}, r"config\.evaluation is \(\); it must be a group"),
        ({"num_steps": {}}, r"config\.num_steps must be .* got \{\}\.$"),
        (
            {"model": DEEP},
            r"The config cannot be built: Maximum allowed size exceeded\.",
        ),
        ({"crf": 3}, r"config\.crf is 3; it must be a group"),
        (
            {"schedule": {"name": "cosine", "learning_rate": 10**400}},
            r"config\.schedule: ",
        ),
    ],
)
def test_values_of_another_type_than_their_key_are_one_sentence(
    smoke, change, sentence
):
    from segjax.tasks.table import make_task

    config = ml_collections.ConfigDict(smoke.to_dict() | change)
    with pytest.raises(UserError, match=sentence):
        make_task(config)


def test_a_config_file_must_return_a_config(tmp_path):
    (tmp_path / "a.py").write_text("def get_config(preset):\n  return {'seed': 1}\n")
    with pytest.raises(UserError, match=r"get_config of .*a\.py returns dict\. Let it"):
        config_lib.load(str(tmp_path / "a.py"))


def test_a_key_that_is_not_set_is_like_none():
    old = ml_collections.ConfigDict({"data": {"name": "folder"}})
    new = ml_collections.ConfigDict({"data": {"name": "folder", "group": None}})
    assert config_lib.differences(old, new) == {}
    new.data.group = "animal"
    assert config_lib.differences(old, new) == {
        "data.group": "was not set, now 'animal'"
    }
