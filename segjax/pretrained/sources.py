"""The sources by name, and loading from them."""

from __future__ import annotations

import difflib
import functools
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from segjax.errors import UserError
from segjax.models.groups import merge
from segjax.pretrained import (
    caffe,
    convert,
    hugging_face_folder,
    smp,
    smp_folder,
    torchvision,
    torchvision_instances,
)
from segjax.pretrained.downloads import download as fetch
from segjax.pretrained.files import read_state
from segjax.pretrained.hugging_face import HUGGING_FACE
from segjax.pretrained.source import IMAGE_SHAPE, Source, abstract_variables, build
from segjax.pretrained.tflite_sources import TFLITE

log = logging.getLogger("segjax")

RESNET50, RESNET101 = torchvision.resnet(50), torchvision.resnet(101)
MOBILENET_V3 = torchvision.mobilenet_v3_large()

SOURCES: dict[str, Source] = {
    "caffe/vgg16": caffe.vgg16(),
    **HUGGING_FACE,
    **smp.SMP,
    **TFLITE,
    "torchvision/alexnet": torchvision.alexnet(),
    "torchvision/googlenet": torchvision.googlenet(),
    "torchvision/mobilenet_v2": torchvision.mobilenet_v2(),
    "torchvision/mobilenet_v3_large": MOBILENET_V3,
    "torchvision/resnet18": torchvision.resnet(18),
    "torchvision/resnet34": torchvision.resnet(34),
    "torchvision/resnet50": RESNET50,
    "torchvision/resnet101": RESNET101,
    "torchvision/resnet152": torchvision.resnet(152),
    "torchvision/vgg16": torchvision.vgg(16, batch_norm=False),
    "torchvision/vgg16_bn": torchvision.vgg(16, batch_norm=True),
    "torchvision/deeplabv3_mobilenet_v3_large": torchvision.deeplab_v3(
        MOBILENET_V3,
        output_stride=16,
        aux_stage="stage3_first",
        dilate_first_block=True,
    ),
    "torchvision/deeplabv3_resnet50": torchvision.deeplab_v3(RESNET50),
    "torchvision/deeplabv3_resnet101": torchvision.deeplab_v3(RESNET101),
    "torchvision/fcn_resnet50": torchvision.fcn(RESNET50),
    "torchvision/fcn_resnet101": torchvision.fcn(RESNET101),
    "torchvision/lraspp_mobilenet_v3_large": torchvision.lraspp(MOBILENET_V3),
    "torchvision/fasterrcnn_resnet50_fpn": torchvision_instances.faster_rcnn(),
    "torchvision/fasterrcnn_resnet50_fpn_v2": torchvision_instances.faster_rcnn(
        second=True
    ),
    "torchvision/keypointrcnn_resnet50_fpn": torchvision_instances.keypoint_rcnn(),
    "torchvision/maskrcnn_resnet50_fpn": torchvision_instances.mask_rcnn(),
    "torchvision/maskrcnn_resnet50_fpn_v2": torchvision_instances.mask_rcnn(
        second=True
    ),
}
"""Where weights can come from."""


OUTPUT_STRIDE = "output_stride"
"""An attribute of backbones; as an override it may stand without theirs."""


def load(
    source: str,
    state_dict: Mapping[str, Any] | str | Path | None = None,
    *,
    download: bool = False,
    num_classes: int | None = None,
    reinitialize: bool = False,
    skip: Iterable[str] = (),
    seed: int = 0,
    **overrides: Any,
) -> tuple[nn.Module, dict[str, Any]]:
    """Makes the model that weights belong to, and its variables.

    The model has the attributes of the source's: a backbone gives its stages and, if the
    weights have a classifier, `logits` `[B, K]`; a segmentation gives `logits`
    `[B, H, W, K]`, in training `aux_logits` besides, if the weights have that head; a
    detector gives `boxes`, `scores`, `classes` and the like.

    Args:
      source: a name of `SOURCES`.
      state_dict: arrays (or tensors of PyTorch) by their foreign names. What wrappers
        put before all names, such as "module." or "model.", is taken off. Or a file of
        weights, or the folder that segmentation_models.pytorch saves.
      download: whether the published file is fetched instead, by
        `segjax.pretrained.download`.
      num_classes: the classes that are wanted; None takes those of the weights.
      reinitialize: whether another number of classes than that of the weights is meant:
        the classifiers are then random, everything else is loaded.
      skip: foreign modules that are left out, as "fc": a backbone needs no classifier.
      seed: of the random classifiers.
      **overrides: attributes of the model that are to differ, as `dtype`, or
        `backbone={"output_stride": 16}`, for which `output_stride=16` is short, or `backbone={"norm": {"epsilon": 1e-5}}` for a
        detector that was trained by torchvision's scripts: `torchvision/*_fpn` (not
        `_v2`) mean the published weights, which torchvision uses with an epsilon of 0.

    Returns:
      The module, and its collections for `model.apply(variables, image, train=False)`.

    Raises:
      UserError: if the source is unknown, it cannot be fetched, the number of classes is another one, or
        there is a tensor without a place, a place without a tensor, or one of another
        shape; all of them are listed.
    """
    entry = lookup(source)
    if (state_dict is None) != download:
        raise UserError(
            f"{source} is loaded from a state_dict, or with download=True from its "
            "published file: give one of them."
        )
    if state_dict is None:
        state_dict = fetch(source)
    if isinstance(state_dict, str | Path):
        entry, file = opened(source, state_dict)
        state_dict = read_state(file)
    return load_as(
        entry,
        source,
        state_dict,
        num_classes=num_classes,
        reinitialize=reinitialize,
        skip=skip,
        seed=seed,
        overrides=overrides,
    )


def opened(source: str, path: str | Path) -> tuple[Source, Path]:
    """Finds a source, and the file in which its weights are.

    Args:
      source: a name of `SOURCES`.
      path: the file, or the folder that segmentation_models.pytorch or Hugging Face saves.

    Returns:
      The source, with what the folder states of its network and classes, and the file.

    Raises:
      UserError: if there is no such source, or the folder is not one of it.
    """
    entry, path = lookup(source), Path(path)
    if path.is_dir() and source in smp.SMP:
        return smp_folder.read_saved(source, path)
    if path.is_dir() and source in HUGGING_FACE:
        return hugging_face_folder.read_saved(source, path)
    return entry, path


def load_as(
    entry: Source,
    source: str,
    state_dict: Mapping[str, Any],
    *,
    num_classes: int | None = None,
    reinitialize: bool = False,
    skip: Iterable[str] = (),
    seed: int = 0,
    overrides: Mapping[str, Any] | None = None,
) -> tuple[nn.Module, dict[str, Any]]:
    """Makes the model of a source that may have other arguments than the one of its name.

    Args:
      entry: the source.
      source: its name.
      state_dict: as for `load`.
      num_classes: as for `load`.
      reinitialize: as for `load`.
      skip: as for `load`.
      seed: as for `load`.
      overrides: as for `load`.

    Returns:
      As `load`.

    Raises:
      UserError: as `load`.
    """
    what = f"The weights of {source}"
    skip = tuple(skip)
    state_dict = unwrapped(entry, state_dict, skip)
    state = tensors(entry, state_dict, skip, what=what)
    head = f"{entry.classifier[0]}.bias"
    whose = functools.partial(hint, source, state_dict)
    if head not in state and not entry.is_backbone and (of_others := whose()):
        raise UserError(f"{what} lack {head}.{of_others}")
    group = entry.group_of(state, num_classes)
    fresh: set[str] = set()
    found = entry.classes_of(state)
    if num_classes is not None and num_classes != found:
        if not reinitialize:
            classes = "1 class" if found == 1 else f"{found} classes"
            theirs, instead = f"have {classes}", "use that number, or "
            if found is None:
                theirs, instead = f"have no {entry.classifier[0]}", ""
            raise UserError(
                f"{what} {theirs}, num_classes is {num_classes}: {instead}make a new "
                "classifier with reinitialize=True."
            )
        heads = [m for m in entry.classifier if f"{m}.bias" in state]
        state = convert.drop(state, heads, source=what)
        # An auxiliary head that the weights lack, the network lacks, too.
        heads += [m for m in entry.classifier if m not in entry.auxiliary]
        fresh = {entry.names[head] for head in heads}
    changes = dict(overrides or {})
    if "backbone" in group and OUTPUT_STRIDE in changes:
        stride = {OUTPUT_STRIDE: changes.pop(OUTPUT_STRIDE)}
        changes = merge({"backbone": stride}, changes)
    model = build(merge(group, changes), source)
    variables = convert.convert(
        state,
        entry.names,
        abstract_variables(model),
        optional=fresh.__contains__,
        source=what,
        hint=whose,
    )
    variables = jax.tree.map(jnp.asarray, variables)
    if fresh:
        variables = merge(_draw(model, fresh, seed), variables)
    return model, variables


def lookup(source: str) -> Source:
    """Finds a source by its name.

    Raises:
      UserError: if there is none, naming those that there are.
    """
    if source not in SOURCES:
        if source.startswith(smp.PREFIX):
            raise UserError(
                f'There is no source "{source}": such a name is '
                f"{smp.PREFIX}ARCHITECTURE-ENCODER, with one of the architectures "
                f"{', '.join(smp.ARCHITECTURES)} and one of the encoders "
                f"{', '.join(smp.ENCODERS)} (deeplabv3plus: not vgg)."
            )
        near = difflib.get_close_matches(source, SOURCES, n=1, cutoff=0.9)
        meant = f' Did you mean "{near[0]}"?' if near else ""
        whose = source.partition("/")[0]
        alike = [x for x in sorted(SOURCES) if x.startswith(f"{whose}/")]
        others = sorted({x.partition("/")[0] for x in SOURCES} - {whose})
        known = f"Known: {', '.join(alike)}. Others" if alike else "Sources"
        raise UserError(
            f'There is no source "{source}".{meant} {known} begin with '
            f"{', '.join(f'{x}/' for x in others)}."
        )
    return SOURCES[source]


def unwrapped(
    entry: Source, state_dict: Mapping[str, Any], skip: Iterable[str] = ()
) -> Mapping[str, Any]:
    """Takes off what wrappers of a network put before all names.

    `DataParallel` puts "module.", `torch.compile` "_orig_mod.", Lightning and others the
    name of an attribute, "model." or "net."; they may be nested. `AveragedModel` puts
    "module.", too, and a count beside the network, which is left out.

    Args:
      entry: the source, whose names the others have to be.
      state_dict: arrays by their foreign names.
      skip: modules that are left out, whose names need not begin so.

    Returns:
      The same arrays; names as they were where they do not become the source's.
    """
    prefix = _wrapper(entry, state_dict, skip)
    if not prefix:
        return state_dict
    log.info('Weights    removed the prefix "%s" from all names', prefix)
    return {
        str(name).removeprefix(prefix): x
        for name, x in state_dict.items()
        if not _counts(str(name))
    }


def _counts(name: str) -> bool:
    return name.rpartition(".")[2] == convert.AVERAGED


def _wrapper(entry: Source, names: Iterable[str], skip: Iterable[str]) -> str:
    """The shortest beginning of all names without which some are the source's.

    Names without a dot are not of a network that a wrapper holds, but of the wrapper.
    """
    skipped = tuple(f"{module}." for module in skip)
    paths = [
        name.split(".")
        for name in map(str, names)
        if not (f"{name}.".startswith(skipped) or _counts(name) or "." not in name)
    ]
    for depth in range(min(map(len, paths), default=0)):
        if len({tuple(path[:depth]) for path in paths}) > 1:
            break
        rest = (entry.rename(".".join(path[depth:])) for path in paths)
        if convert.modules_of(rest) & set(entry.names):
            return "".join(f"{part}." for part in paths[0][:depth])
    return ""


def tensors(
    entry: Source, state_dict: Mapping[str, Any], skip: Iterable[str], *, what: str
) -> dict[str, np.ndarray]:
    """The tensors of a state dict, named as in the source's table.

    Args:
      entry: the source.
      state_dict: arrays or tensors by their foreign names.
      skip: modules that are left out.
      what: what the weights are called, for messages.

    Returns:
      Arrays by name, without what is skipped.

    Raises:
      UserError: if a value is not an array, two are of one place, or there is nothing to
        skip.
    """
    state: dict[str, np.ndarray] = {}
    origins: dict[str, str] = {}
    for name, value in state_dict.items():
        if not hasattr(value, "shape"):
            raise UserError(
                f'{what} hold {type(value).__name__} under "{name}", not an array.'
            )
        renamed = entry.rename(str(name))
        if renamed in origins:
            raise UserError(
                f'{what} hold "{origins[renamed]}" and "{name}", which are both '
                f"{renamed}: leave one out."
            )
        origins[renamed] = name
        state[renamed] = entry.arrange(renamed, convert.to_numpy(value))
    used = {name: x for name, x in state.items() if not entry.is_unused(name)}
    if left_out := sorted(convert.modules_of(state) - convert.modules_of(used)):
        log.info(
            "Weights    %d modules that the network does not have are left out, as %s",
            len(left_out),
            left_out[0],
        )
    return convert.drop(used, skip, source=what)


def hint(source: str, names: Iterable[str]) -> str:
    """Ends a message about weights that do not fit: whose they are, by their names."""
    names = list(map(str, names))
    others = []
    for other, entry in SOURCES.items():
        prefix = _wrapper(entry, names, ())
        if entry.has_names_of(entry.rename(x.removeprefix(prefix)) for x in names):
            others.append(other)
    if not others or source in others:
        return ""
    return f" By their names they are those of {' or '.join(others)}."


def _draw(model: nn.Module, modules: set[str], seed: int) -> dict[str, Any]:
    """Draws the parameters of some modules as the model does; the others cost nothing."""

    def init() -> dict[str, Any]:
        image = jnp.zeros(IMAGE_SHAPE)
        params = model.init(jax.random.key(seed), image, train=False)["params"]
        found: dict[str, Any] = {}
        for module in modules:
            node: Any = params
            for part in module.split("/"):
                node = node[part]
            found[module] = node
        return found

    tree: dict[str, Any] = {}
    for module, leaves in jax.jit(init)().items():
        node = tree
        *parents, last = module.split("/")
        for part in parents:
            node = node.setdefault(part, {})
        node[last] = leaves
    return {"params": tree}
