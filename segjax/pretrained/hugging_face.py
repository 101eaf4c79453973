"""SegFormer's weights as Hugging Face keeps them, in repositories of the account nvidia.

Names are those of the files; what `transformers` calls the same modules in memory since its
version 5 is understood, too. Images are RGB, normalised by ImageNet's mean and standard
deviation. `LICENCE` says what the weights are for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from segjax.backbones.mix_transformer import STAGES
from segjax.pretrained.source import Source

LICENCE = (
    "NVIDIA Source Code License for SegFormer (github.com/NVlabs/SegFormer): for research and "
    "evaluation, not for profit; trained on ImageNet, ADE20K or Cityscapes, whose terms may "
    "bind you, too"
)
"""What users of the weights are bound to."""

WIDE = (64, 128, 320, 512)
SIZES: dict[str, dict[str, Any]] = {
    "b0": {"features": (32, 64, 160, 256), "blocks": (2, 2, 2, 2)},
    "b1": {"features": WIDE, "blocks": (2, 2, 2, 2)},
    "b2": {"features": WIDE, "blocks": (3, 4, 6, 3)},
    "b3": {"features": WIDE, "blocks": (3, 4, 18, 3)},
    "b4": {"features": WIDE, "blocks": (3, 8, 27, 3)},
    "b5": {"features": WIDE, "blocks": (3, 6, 40, 3)},
}
"""The encoders, table 6 of the paper."""

DECODER_FEATURES = {"b0": 256, "b1": 256}
"""Channels of the decoder; 768 for the others."""

ENCODER = "segformer.encoder"
HEAD = "decode_head"

RENAMED = (
    (
        r"segformer\.stages\.(\d+)\.patch_embeddings\.",
        rf"{ENCODER}.patch_embeddings.\1.",
    ),
    (r"segformer\.stages\.(\d+)\.blocks\.", rf"{ENCODER}.block.\1."),
    (r"segformer\.stages\.(\d+)\.layer_norm\.", rf"{ENCODER}.layer_norm.\1."),
    (r"\.attention\.q_proj\.", ".attention.self.query."),
    (r"\.attention\.k_proj\.", ".attention.self.key."),
    (r"\.attention\.v_proj\.", ".attention.self.value."),
    (r"\.sequence_reduction\.sequence_reduction\.", ".self.sr."),
    (r"\.sequence_reduction\.layer_norm\.", ".self.layer_norm."),
    (r"\.attention\.o_proj\.", ".attention.output.dense."),
    (r"\.mlp\.fc(\d)\.", r".mlp.dense\1."),
    (r"\.layernorm_before\.", ".layer_norm_1."),
    (r"\.layernorm_after\.", ".layer_norm_2."),
    (r"^decode_head\.linear_projections\.", f"{HEAD}.linear_c."),
)
"""What `transformers` calls modules in memory since version 5, and in files."""


def rename(name: str) -> str:
    """Brings the name of a tensor into the form that files have.

    Example:
      >>> rename("segformer.stages.0.blocks.1.attention.q_proj.bias")
      'segformer.encoder.block.0.1.attention.self.query.bias'
      >>> rename("decode_head.classifier.bias")
      'decode_head.classifier.bias'
    """
    for theirs, ours in RENAMED:
        name = re.sub(theirs, ours, name)
    return name


def mix_transformer(size: str) -> Source:
    """The encoder with the classifier of ImageNet that it was trained with, or without.

    Args:
      size: "b0" to "b5".

    Returns:
      The source.
    """
    names = _encoder_names(size) | {"classifier": "classifier"}
    group = {"name": "mix_transformer", **SIZES[size], "epsilon": 1e-5}
    return Source(
        group, names, classifier=("classifier",), top=("classifier",), rename=rename
    )


def segformer(size: str, input_size: tuple[int, int] | None = None) -> Source:
    """SegFormer as `transformers` computes it.

    Args:
      size: "b0" to "b5".
      input_size: height and width to which images are squeezed, where the repository says so.

    Returns:
      The source.
    """
    encoder = mix_transformer(size)
    names = {
        theirs: f"backbone/{ours}"
        for theirs, ours in encoder.names.items()
        if not theirs.startswith(encoder.top)
    }
    for i, stage in enumerate(STAGES):
        names[f"{HEAD}.linear_c.{i}.proj"] = f"linear_{stage}"
    names |= {
        f"{HEAD}.linear_fuse": "fuse",
        f"{HEAD}.batch_norm": "norm",
        f"{HEAD}.classifier": "logits",
    }
    group = {
        "name": "segformer",
        "backbone": encoder.group,
        "features": DECODER_FEATURES.get(size, 768),
    }
    return Source(
        group,
        names,
        classifier=(f"{HEAD}.classifier",),
        rename=rename,
        input_size=input_size,
    )


def _encoder_names(size: str) -> dict[str, str]:
    names = {}
    for i, (stage, count) in enumerate(zip(STAGES, SIZES[size]["blocks"], strict=True)):
        patches = f"{ENCODER}.patch_embeddings.{i}"
        names[f"{patches}.proj"] = f"{stage}/patch_merging/conv"
        names[f"{patches}.layer_norm"] = f"{stage}/patch_merging/norm"
        for k in range(count):
            for theirs, ours in BLOCK.items():
                if stage != STAGES[-1] or theirs not in REDUCTION:
                    name = f"{ENCODER}.block.{i}.{k}.{theirs}"
                    names[name] = f"{stage}/block{k + 1}/{ours}"
        names[f"{ENCODER}.layer_norm.{i}"] = f"{stage}/norm"
    return names


REDUCTION = ("attention.self.sr", "attention.self.layer_norm")
"""Modules that blocks of the last stage lack."""

BLOCK = {
    "layer_norm_1": "norm1",
    "attention.self.query": "attention/query",
    "attention.self.key": "attention/key",
    "attention.self.value": "attention/value",
    "attention.self.sr": "attention/reduction",
    "attention.self.layer_norm": "attention/norm",
    "attention.output.dense": "attention/output",
    "layer_norm_2": "norm2",
    "mlp.dense1": "mix_ffn/expand",
    "mlp.dwconv.dwconv": "mix_ffn/depthwise",
    "mlp.dense2": "mix_ffn/project",
}
"""Modules of a block, and ours."""


def _repositories() -> Mapping[str, tuple[str, Source]]:
    found: dict[str, tuple[str, Source]] = {}
    for size in SIZES:
        side = 640 if size == "b5" else 512
        data = {
            "ade": (f"ade-{side}-{side}", (side, side)),
            "cityscapes": ("cityscapes-1024-1024", None),
        }
        for name, (suffix, input_size) in data.items():
            repository = f"nvidia/segformer-{size}-finetuned-{suffix}"
            source = segformer(size, input_size)
            found[f"hf/segformer-{size}-{name}"] = repository, source
        found[f"hf/mit-{size}"] = f"nvidia/mit-{size}", mix_transformer(size)
    return found


_FOUND = _repositories()

REPOSITORIES = {name: repository for name, (repository, _) in _FOUND.items()}
"""Whose weights each source means; each repository has `config.json` and the weights."""

HUGGING_FACE = {name: source for name, (_, source) in _FOUND.items()}
"""The sources by name."""
