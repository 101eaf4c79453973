"""Runs that do not begin with random weights: a file named in the config, or an import."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from segjax import config as config_lib
from segjax.errors import UserError
from segjax.geometry.input_sizes import geometry_of
from segjax.models.builder import BACKBONE
from segjax.models.groups import merge
from segjax.pretrained import convert, downloads, published, sources
from segjax.pretrained.files import file_sha256, read_state
from segjax.pretrained.source import Source
from segjax.runs.model_file import config_of
from segjax.runs.run_weights import RUN, weights_of_run
from segjax.training import checkpoint_files
from segjax.training.loop import INITIALIZATION
from segjax.training.state import TrainState, begun

log = logging.getLogger("segjax")


@dataclasses.dataclass(frozen=True)
class Initialization:
    """The optional group `initialization` of a config.

    Attributes:
      source: a name of `segjax.pretrained.SOURCES`, or "segjax/run", another run of
        ours. Weights of a classifier of images go into the backbone of the model, or,
        without one, into its layers of the same names.
      input: the file, or the folder of the run or of one of its checkpoints.
      skip: modules of the source that are left out, as "classifier.4", or "logits".
      skip_mismatch: whether layers of a run are left out, too, whose shape differs here as
        there are other classes or channels; they are new then.
      download: whether the published file of the source is fetched, instead of `input`.
    """

    source: str
    input: str = ""
    skip: tuple[str, ...] = ()
    skip_mismatch: bool = False
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
        for name in ("skip_mismatch", "download"):
            if not isinstance(value := getattr(self, name), bool):
                raise ValueError(f"{name} must be True or False, got {value!r}")
        if bool(self.input) == self.download:
            raise ValueError("give either input or download=True")
        if self.skip_mismatch and self.source != RUN:
            raise ValueError(
                f'skip_mismatch is for source="{RUN}"; name layers in skip'
            )


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
    return found


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
    begun[INITIALIZATION] = {"source": RUN, "input": str(run), "skip_mismatch": True}
    return begun


def read(
    config: ml_collections.ConfigDict,
    model: nn.Module,
    channels: int,
    workdir: Path,
    allow_code: Collection[str] = (),
) -> Weights | None:
    """Reads the weights that a config names.

    Args:
      config: the experiment.
      model: its network.
      channels: of its images.
      workdir: of the run.
      allow_code: packages whose code may be imported where the config of another run names it.

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
    if named.source == RUN:
        target = abstract(model, channels)
        return Weights(
            *weights_of_run(
                path,
                named.skip,
                target,
                config,
                channels,
                skip_mismatch=named.skip_mismatch,
                allow_code=allow_code,
            )
        )
    entry, path = sources.opened(named.source, path)
    if not path.is_file():
        raise UserError(
            f"config.{INITIALIZATION}.input is {named.input}: there is no such file."
        )
    given = config.pipeline.normalization
    if given != entry.normalization:
        log.warning(
            'config.pipeline.normalization is "%s", but the weights of %s are for "%s".',
            given,
            named.source,
            entry.normalization,
        )
    _check_epsilon(entry, named, model)
    about = {"source": named.source, "input": str(path), "sha256": file_sha256(path)}
    variables = fit(entry, read_state(path), named, abstract(model, channels))
    return Weights(variables, about)


def _check_epsilon(entry: Source, named: Initialization, model: nn.Module) -> None:
    """Warns of frozen norms whose epsilon is not that of the weights."""
    theirs = entry.group.get(BACKBONE, {}).get("norm", {}).get("epsilon")
    norm = getattr(getattr(model, BACKBONE, None), "norm", None)
    ours = getattr(norm, "epsilon", theirs)
    if theirs is not None and ours != theirs:
        log.warning(
            "config.model has norms with an epsilon of %g, but the published weights of "
            "%s are for %g: set config.model.backbone.norm.epsilon, unless you trained them.",
            ours,
            named.source,
            theirs,
        )


def abstract(model: nn.Module, channels: int) -> Mapping[str, Any]:
    """Shapes of a model's collections for images of a number of channels."""
    side = geometry_of(model).next_accepted(224)
    image = jax.ShapeDtypeStruct((1, side, side, channels), jnp.float32)
    init = lambda image: model.init(jax.random.key(0), image, train=False)
    return jax.eval_shape(init, image)


def fit(
    entry: Source,
    state_dict: Mapping[str, np.ndarray],
    named: Initialization,
    target: Mapping[str, Any],
) -> dict[str, Any]:
    """Converts weights for a model that need not be the source's own.

    The backbone has to be filled; of the rest, what has no tensor is left out. A
    classifier of images has no place in a segmentation, and is passed over. A model
    without backbone can have the layers of one itself, by the same names, as SegNet and
    DeconvNet have those of VGG; these have to be filled, then.

    Args:
      entry: the source.
      state_dict: foreign tensors by name.
      named: the group of the config.
      target: shapes of the model's collections.

    Returns:
      Collections like `target`, those leaves that the weights have.

    Raises:
      UserError: if the weights do not fit.
    """
    what = f"The weights of {named.source} in {named.input}"
    state_dict = sources.unwrapped(entry, state_dict, named.skip)
    state = sources.tensors(entry, state_dict, named.skip, what=what)
    params = target["params"]
    names = dict(entry.names)
    if entry.is_backbone:
        if BACKBONE in params:
            names = {theirs: f"{BACKBONE}/{ours}" for theirs, ours in names.items()}
        elif not any(_has(params, ours) for ours in names.values()):
            raise UserError(
                f"{what} are those of a backbone, but config.model has none: choose a "
                "model with a backbone, or leave the group out."
            )
        homeless = [
            module
            for module in convert.modules_of(state)
            if module.startswith(entry.top)
            and module in names
            and not _has(params, names[module])
        ]
        state = convert.drop(state, homeless, source=what)
    heads = [head for head in entry.classifier if f"{head}.bias" in state]
    advice = ""
    if heads and not entry.is_backbone:
        listed = ", ".join(f'"{head}"' for head in heads)
        advice = f" For other classes, set config.{INITIALIZATION}.skip=({listed},)."
    required = {x for x in _modules(params) if x.startswith(f"{BACKBONE}/")}
    if entry.is_backbone and BACKBONE not in params:
        required = set(names.values())
    variables = convert.convert(
        state,
        names,
        target,
        optional=lambda module: module not in required,
        source=what,
        hint=sources.hint(named.source, state_dict) or advice,
    )
    filled = set(_modules(variables["params"]))
    random = [module for module in _modules(params) if module not in filled]
    log.info(
        "Weights    %d modules from %s; random: %s",
        len(filled),
        named.input,
        ", ".join(random) or "nothing",
    )
    return variables


def _modules(params: Mapping[str, Any]) -> list[str]:
    leaves = jax.tree_util.tree_leaves_with_path(params)
    names = ("/".join(key.key for key in path[:-1]) for path, _ in leaves)
    return list(dict.fromkeys(names))


def _has(params: Mapping[str, Any], module: str) -> bool:
    node: Any = params
    for part in module.split("/"):
        if part not in node:
            return False
        node = node[part]
    return True
