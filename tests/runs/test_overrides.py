"""Keys on the command line that a config leaves out."""

import pytest

from segjax import config as config_lib
from segjax.commands.shared_flags import CONFIG, Flags, define_config, read_config
from segjax.errors import UserError
from segjax.runs import overrides

FILE = "configs/unet_em.py:smoke"


def read(*changes, file=FILE):
    """The config as a command line reads it."""
    arguments = [f"--config={file}", *changes]
    values = Flags()
    define_config(values, arguments)
    read_config(values, arguments)
    values(["segjax", *arguments])
    return values[CONFIG].value


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("optimizer.b2=0.95", 0.95),
        ("optimizer.accumulate=2", 2),
        ("optimizer.clip_norm=None", None),
        ("data.seed=3", 3),
        ("pipeline.foreground_fraction=1", 1.0),
        ("evaluation.scales=0.5,1.0", (0.5, 1.0)),
        ("evaluation.tile=64", 64),
        ("evaluation.flip=true", True),
        ("evaluation.best_metric=rand_error", "rand_error"),
        ("model.norm.epsilon=1e-3", 1e-3),
        ("crf.num_iterations=3", 3),
        ("fold.index=1", 1),
        ("keep_every=100", 100),
        ("ema.decay=0.99", 0.99),
        ("early_stopping.patience=3", 3),
        ("sharding.data=2", 2),
        ("sharding.params=bottom/*", ("bottom/*",)),
        ("calibration.temperature=1.5", 1.5),
        ("data.unlabeled.folder=frames", "frames"),
        ("checkpoint_every_minutes=0.5", 0.5),
        ("task=instance", "instance"),
        ("schedule.end=0.1", 0.1),
        ("pipeline.percentiles.low=0.5", 0.5),
    ],
)
def test_a_key_that_a_config_leaves_out_has_the_type_of_the_argument(change, expected):
    key, _, _ = change.partition("=")
    stated = config_lib.flattened(config_lib.load(FILE))
    assert key not in stated or stated[key] != expected
    value = config_lib.value_of(read(f"--config.{change}"), key)
    assert value == expected
    assert type(value) is type(expected)


def test_switches_need_no_value():
    assert read("--config.evaluation.flip").evaluation.flip is True
    assert read("--noconfig.evaluation.flip").evaluation.flip is False


def test_the_part_that_is_named_on_the_command_line_decides():
    changes = ("--config.optimizer.name=sgd", "--config.optimizer.momentum=0.5")
    assert read(*changes).optimizer.momentum == 0.5
    with pytest.raises(UserError, match=r'config\.optimizer has no key "momentum"'):
        read(changes[1])


def test_other_keys_stay_as_they_are():
    before, after = config_lib.load(FILE), read("--config.optimizer.b1=0.8")
    found = config_lib.differences(before, after)
    assert found == {"optimizer.b1": "was not set, now 0.8"}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("modle.depth=3", 'config has no key "modle". Did you mean "model"'),
        (
            "optimizer.b3=1",
            'config.optimizer has no key "b3". Known: accumulate, adam_on',
        ),
        ("ema.decya=0.9", 'config.ema has no key "decya". Did you mean "decay"'),
        ("model.dropout=1", 'config.model has no key "dropout". Did you mean'),
        ("model.parent=1", 'config.model has no key "parent"'),
        ("evaluation.x.y=1", 'config.evaluation has no key "x"'),
        ("data.cache_dir=1", 'config.data has no key "cache_dir"'),
        (
            "model.name=unett",
            "config.model.name is 'unett', which segjax does not know",
        ),
        ("batch_size.x=1", "config.batch_size is a value, not a group"),
    ],
)
def test_what_no_part_takes_is_refused(change, sentence):
    changes = [f"--config.{change}"]
    if change.startswith("model.name"):
        changes.append("--config.model.extra=1")
    with pytest.raises(UserError, match=sentence.replace(".", r"\.")):
        read(*changes)


def test_parts_that_take_anything_and_parts_without_leave_are_asked_when_built():
    plain = config_lib.load(FILE).to_dict()
    plain["optimizer"] = {"name": "my_package:adam"}
    config = config_lib.from_dict(plain)  # of a run: the name waits for leave
    overrides.state_keys(config, {"optimizer.whatever": "3"})
    assert "whatever" in config.optimizer
