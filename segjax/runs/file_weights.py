"""Weights of a file from elsewhere, in the network of an experiment."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections

from segjax.errors import UserError
from segjax.geometry.input_sizes import geometry_of
from segjax.models.builder import BACKBONE, build_model
from segjax.pretrained import convert, sources
from segjax.pretrained.files import file_sha256, read_state
from segjax.pretrained.published import licence_of
from segjax.pretrained.source import CHANNELS, Source
from segjax.runs.class_mapping import KEY
from segjax.runs.placed_weights import FoundWeights, flattened
from segjax.training.about import LICENCE

log = logging.getLogger("segjax")


def weights_of_file(
    source: str,
    path: Path,
    skip: Sequence[str],
    config: ml_collections.ConfigDict,
    target: Mapping[str, Any],
    *,
    other_head: bool = False,
) -> FoundWeights:
    """Reads a file of weights from elsewhere.

    Args:
      source: a name of `segjax.pretrained.SOURCES`.
      path: the file, or the folder that segmentation_models.pytorch saves.
      skip: modules of the source that are left out.
      config: the experiment that begins with them.
      target: shapes of the collections of its network.
      other_head: whether the head may have another number of classes, and the images another
        number of channels, than the network.

    Returns:
      The weights, by the names of the network.

    Raises:
      UserError: if there is no such file, or it does not fit.
    """
    # Not above: it imports what training on objects has no use for.
    from segjax.runs.imported_experiment import names_of_classes

    if not path.exists():
        raise UserError(
            f"config.initialization.input is {path}: there is no such file."
        )
    entry, file = sources.opened(source, path)
    _check_norm(entry, source, config)
    what = f"The weights of {source} in {path}"
    state_dict = sources.unwrapped(entry, read_state(file), skip)
    state = sources.tensors(entry, state_dict, skip, what=what)
    num_classes = None if entry.is_backbone else entry.classes_of(state)
    if other_head:
        theirs = with_num_classes(config, num_classes or config.model.num_classes)
        target = abstract(theirs, CHANNELS)
    whose = functools.partial(sources.hint, source, state_dict)
    leaves = fit(entry, state, target, what=what, hint=whose)
    about = origin(source, path, file)
    names: tuple[str, ...] = ()
    if num_classes is not None:  # one logit is that of two classes
        names = names_of_classes(max(num_classes, 2), entry.class_names)
    return FoundWeights(flattened(leaves), num_classes, names, CHANNELS, about)


def origin(source: str, path: str | Path, file: Path) -> dict[str, str]:
    """What a run keeps of where its weights are from; what binds their users is logged.

    Args:
      source: a name of `segjax.pretrained.SOURCES`.
      path: of the file or folder, as the user gave it.
      file: of the weights.

    Returns:
      `source`, `input`, `sha256` of the file and, where it is known, `licence`.
    """
    about = {"source": source, "input": str(path), "sha256": file_sha256(file)}
    if licence := licence_of(source):
        about[LICENCE] = licence
        log.info("Weights    of %s: %s", source, licence)
    return about


def with_num_classes(config: ml_collections.ConfigDict, num_classes: int) -> nn.Module:
    """The network of an experiment, with another number of classes."""
    return build_model(
        config.model,
        {"num_classes": num_classes},
        normalization=config.pipeline.get("normalization"),
    )


def _check_norm(entry: Source, source: str, config: ml_collections.ConfigDict) -> None:
    """Warns of norms in the backbone that are not those of the weights."""
    group = entry.group.get(BACKBONE, entry.group)
    norm = getattr(getattr(build_model(config.model), BACKBONE, None), "norm", None)
    theirs = {
        key: value
        for key, value in group.get("norm", {}).items()
        if key in ("epsilon", "frozen") and value != getattr(norm, key, value)
    }
    if theirs:
        log.warning(
            "config.model.backbone.norm is not that of the published weights of %s: set %s "
            "there, unless you trained them.",
            source,
            " and ".join(f"{key}={value}" for key, value in theirs.items()),
        )


def abstract(model: nn.Module, channels: int) -> Mapping[str, Any]:
    """Shapes of a model's collections for images of a number of channels."""
    side = geometry_of(model).next_accepted(224)
    image = jax.ShapeDtypeStruct((1, side, side, channels), jnp.float32)
    init = lambda image: model.init(jax.random.key(0), image, train=False)
    return jax.eval_shape(init, image)


def fit(
    entry: Source,
    state: convert.State,
    target: Mapping[str, Any],
    *,
    what: str,
    hint: Callable[[], str] = str,
) -> dict[str, Any]:
    """Converts weights for a model that need not be the source's own.

    The backbone has to be filled; of the rest, what has no tensor is left out. A
    classifier of images has no place in a segmentation, and is passed over. A model
    without backbone can have the layers of one itself, by the same names, as SegNet and
    DeconvNet have those of VGG; these have to be filled, then.

    Args:
      entry: the source.
      state: foreign tensors, of `segjax.pretrained.sources.tensors`.
      target: shapes of the model's collections.
      what: what to call the weights in a message.
      hint: gives a last sentence for messages.

    Returns:
      Collections like `target`, those leaves that the weights have.

    Raises:
      UserError: if the weights do not fit.
    """
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
        advice = (
            f" For other classes, name those of the weights in {KEY}, or begin with a new "
            "head: config.initialization.skip_mismatch=True."
        )
    required = {x for x in _modules(params) if x.startswith(f"{BACKBONE}/")}
    if entry.is_backbone and BACKBONE not in params:
        required = set(names.values())
    return convert.convert(
        state,
        names,
        target,
        optional=lambda module: module not in required,
        source=what,
        hint=lambda: hint() or advice,
    )


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
