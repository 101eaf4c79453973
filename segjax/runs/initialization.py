"""Runs that do not begin with random weights: a file named in the config, or an import."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import ml_collections

from segjax import config as config_lib
from segjax.data.files.channels import count_of
from segjax.data.label_spec import LabelSpec
from segjax.errors import UserError
from segjax.models.groups import merge
from segjax.pretrained import downloads, published, sources
from segjax.pretrained.source import CHANNELS
from segjax.runs.class_mapping import KEY, Classes, check_classes
from segjax.runs.file_weights import abstract, weights_of_file, with_num_classes
from segjax.runs.model_file import config_of
from segjax.runs.placed_weights import place, with_classes
from segjax.runs.run_weights import RUN, config_of_run, weights_of_run
from segjax.tasks.table import task_name
from segjax.training.checkpoints import checkpoint_files
from segjax.training.loop import INITIALIZATION
from segjax.training.run_files.workdir import read_config
from segjax.training.state import TrainState, begun

log = logging.getLogger("segjax")

NORMALIZATION = "normalization"


@dataclasses.dataclass(frozen=True)
class Initialization:
    """The optional group `initialization` of a config.

    Attributes:
      source: a name of `segjax.pretrained.SOURCES`, or "segjax/run", another run of
        ours. Weights of a classifier of images go into the backbone of the model, or,
        without one, into its layers of the same names.
      input: the file, or the folder of the run or of one of its checkpoints.
      skip: modules of the source that are left out, as "classifier.4", or "logits".
      skip_mismatch: whether layers are left out, too, whose shape differs here as there are
        other classes or channels; they are new then.
      classes: where given, the head begins from that of the weights, class by class: pairs
        of a class of the data and the class of the weights that it begins from. A class
        without a pair begins from that of the same name; `()` has no pairs.
      keep_normalization: whether images are normalised as the config says. Otherwise they
        are as the weights want it.
      download: whether the published file of the source is fetched, instead of `input`.
    """

    source: str
    input: str = ""
    skip: tuple[str, ...] = ()
    skip_mismatch: bool = False
    classes: Classes | None = None
    keep_normalization: bool = False
    download: bool = False

    def __post_init__(self) -> None:
        """Checks the kinds of the values."""
        for name in ("source", "input"):
            if not isinstance(getattr(self, name), str):
                raise ValueError(f"{name} must be text, got {getattr(self, name)!r}")
        if not isinstance(self.skip, tuple):
            raise ValueError(
                f'skip must be a tuple, such as ("fc",), got {self.skip!r}'
            )
        for name in ("skip_mismatch", "keep_normalization", "download"):
            if not isinstance(value := getattr(self, name), bool):
                raise ValueError(f"{name} must be True or False, got {value!r}")
        if bool(self.input) == self.download:
            raise ValueError("give either input or download=True")
        if self.classes is not None:
            check_classes(self.classes)


@dataclasses.dataclass(frozen=True)
class Weights:
    """The weights that a run begins with.

    Attributes:
      variables: collections of the model, without what is random.
      about: where they come from; JSON, kept beside each checkpoint.
    """

    variables: dict[str, Any]
    about: dict[str, Any]

    def initialize(self, state: TrainState) -> TrainState:
        """Puts them in the place of those that were random."""
        merged = merge(state.variables, self.variables)
        return begun(merged, state.opt_state, state.ema)


def check(config: ml_collections.ConfigDict) -> Initialization | None:
    """Checks the group of a config, if there is one; reads no file.

    Returns:
      The group; None without it.

    Raises:
      UserError: naming the key that is wrong.
    """
    if INITIALIZATION not in config:
        return None
    found = config_lib.call(
        Initialization, config[INITIALIZATION], f"config.{INITIALIZATION}"
    )
    try:
        if found.source != RUN:
            sources.lookup(found.source)
        if found.download:
            published.lookup(found.source)
    except UserError as error:
        raise UserError(f"config.{INITIALIZATION}.source: {error}") from error
    if found.classes is not None and not _labels_pixels(config):
        raise UserError(
            f"{KEY} is for networks that label pixels, and config.task is "
            f'"{config.task}": leave it out.'
        )
    return found


def _labels_pixels(config: ml_collections.ConfigDict) -> bool:
    return task_name(config) == "semantic"


def with_normalization(
    config: ml_collections.ConfigDict, workdir: Path
) -> ml_collections.ConfigDict:
    """Lets images be normalised as the weights that an experiment begins with want it.

    A run that has a checkpoint goes on as it began, whether the weights are still there or
    not.

    Args:
      config: the experiment, which is left as it is.
      workdir: of the run.

    Returns:
      The experiment, with the normalisation of the weights in its group `pipeline`.

    Raises:
      UserError: if the group `initialization` is wrong, or there is no such run.
    """
    config_lib.check(config)
    named = check(config)
    if named is None or named.keep_normalization or not _labels_pixels(config):
        return config
    theirs: Mapping[str, Any] | ml_collections.ConfigDict
    if checkpoint_files.steps_on_disk(workdir):
        kept = read_config(workdir)
        changed = config_lib.differences(kept, config)
        if any(key.startswith(INITIALIZATION) for key in changed):
            return config  # which the run refuses
        theirs = kept.pipeline
    elif named.source == RUN:
        run = config_of_run(Path(named.input).expanduser())
        if not _labels_pixels(run):
            return config
        theirs = run.pipeline
    elif count_of(config.data.get("channels", CHANNELS)) != CHANNELS:
        return config  # the weights' way is for RGB
    else:
        entry, path = sources.lookup(named.source), Path(named.input).expanduser()
        if path.is_dir():  # which may say it itself
            entry, _ = sources.opened(named.source, path)
        theirs = {NORMALIZATION: entry.normalization}
    given = config.pipeline.get(NORMALIZATION)
    followed = ml_collections.ConfigDict(config.to_dict())
    for key in (NORMALIZATION, "percentiles"):
        if key in theirs:
            followed.pipeline[key] = theirs[key]
        elif key in followed.pipeline:
            del followed.pipeline[key]
    if given != (wanted := followed.pipeline.get(NORMALIZATION)):
        log.info(
            'Images     are normalised by "%s", as the weights want it, not by "%s"; '
            "config.%s.keep_normalization=True keeps that",
            wanted,
            given,
            INITIALIZATION,
        )
    return followed


def continued(
    config: ml_collections.ConfigDict, run: str | Path
) -> ml_collections.ConfigDict:
    """Makes an experiment begin with the weights of a run or a model file.

    Layers whose shape differs, as there are other classes or channels, are new.

    Args:
      config: the experiment, which is left as it is.
      run: the folder of the run, a model file, or the name of a model of segjax.

    Returns:
      The experiment with a group `initialization`.

    Raises:
      UserError: if there is no such run.
    """
    config_of(run)
    begun = ml_collections.ConfigDict(config.to_dict())
    group = {"source": RUN, "input": str(run), "skip_mismatch": True}
    given = begun.get(INITIALIZATION, {})
    if "source" not in given:  # what the command line adds to the run
        group.update(given)
    begun[INITIALIZATION] = group
    return begun


def read(
    config: ml_collections.ConfigDict,
    model: nn.Module,
    channels: int,
    workdir: Path,
    allow_code: Collection[str] = (),
    label_spec: LabelSpec | None = None,
) -> Weights | None:
    """Reads the weights that a config names.

    Args:
      config: the experiment.
      model: its network.
      channels: of its images.
      workdir: of the run.
      allow_code: packages whose code may be imported where the config of another run names it.
      label_spec: the classes of its data, for `classes`.

    Returns:
      The weights; None if none are named, or the run has a checkpoint to go on from.

    Raises:
      UserError: if the file cannot be fetched or read, or does not fit the model.
    """
    if INITIALIZATION not in config or checkpoint_files.steps_on_disk(workdir):
        return None
    named = check(config)
    assert named is not None
    if named.download:
        path = downloads.download(named.source)
        named = dataclasses.replace(named, input=str(path), download=False)
    path = Path(named.input).expanduser()
    target = abstract(model, channels)
    if named.source == RUN:
        found = weights_of_run(path, named.skip, allow_code)
    else:
        found = weights_of_file(
            named.source,
            path,
            named.skip,
            config,
            target,
            other_head=named.skip_mismatch or named.classes is not None,
        )
    if named.classes is not None:
        assert label_spec is not None
        more = with_num_classes(config, config.model.num_classes + 1)
        other = abstract(more, channels)
        found = with_classes(found, target, other, label_spec, named.classes)
    variables = place(
        found, target, config, channels, skip_mismatch=named.skip_mismatch
    )
    return Weights(variables, found.about)
