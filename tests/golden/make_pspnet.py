"""Writes pspnet.npz: what PyTorch makes of a small map by PSPNet's head.

Run by hand, with the reference of requirements-parity.txt installed:

    python tests/golden/make_pspnet.py

The head is written out here after the paper (arXiv 1612.01105, figure 3). Keys are
"variables/..." with the names of segjax, "map", and "<what> <which>" of the results;
arrays are `[B, H, W, C]`, those of logits every third pixel.
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

BINS = (1, 2, 3, 6)
CHANNELS = 8
CLASSES = 3
STRIDE = 8
POOLS = {"average": nn.AdaptiveAvgPool2d, "max": nn.AdaptiveMaxPool2d}


def conv_norm(inputs, outputs, kernel):
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


def resized(x, size):
    return functional.interpolate(x, size, mode="bilinear", align_corners=True)


class Head(nn.Module):
    def __init__(self):
        super().__init__()
        inner = CHANNELS // len(BINS)
        self.levels = nn.ModuleList(conv_norm(CHANNELS, inner, 1) for _ in BINS)
        self.fuse = conv_norm(2 * CHANNELS, 5, 3)
        self.logits = nn.Conv2d(5, CLASSES, 1)
        self.aux = conv_norm(CHANNELS, CHANNELS // 4, 3)
        self.aux_logits = nn.Conv2d(CHANNELS // 4, CLASSES, 1)

    def pyramid(self, x, pooling, reduce):
        parts = [x]
        for bins, level in zip(BINS, self.levels, strict=True):
            grid = POOLS[pooling](bins)(x)
            parts.append(resized(level(grid) if reduce else grid, x.shape[2:]))
        return torch.cat(parts, 1)

    def forward(self, stage5, stage4, size):
        x = self.fuse(self.pyramid(stage5, "average", reduce=True))
        scores = self.logits(x), self.aux_logits(self.aux(stage4))
        return [resized(score, size) for score in scores]


def stored_conv(conv, path):
    found = {f"params/{path}/kernel": conv.weight.permute(2, 3, 1, 0)}
    return found if conv.bias is None else found | {f"params/{path}/bias": conv.bias}


def stored(block, path):
    conv, norm, _ = block
    return stored_conv(conv, f"{path}/conv") | {
        f"params/{path}/norm/scale": norm.weight,
        f"params/{path}/norm/bias": norm.bias,
        f"batch_stats/{path}/norm/mean": norm.running_mean,
        f"batch_stats/{path}/norm/var": norm.running_var,
    }


def variables(head):
    found = stored(head.fuse, "fuse") | stored(head.aux, "aux")
    for bins, level in zip(BINS, head.levels, strict=True):
        found |= stored(level, f"pyramid/bins{bins}")
    found |= stored_conv(head.logits, "logits")
    found |= stored_conv(head.aux_logits, "aux_logits")
    return {f"variables/{path}": value.clone() for path, value in found.items()}


def main():
    torch.manual_seed(0)
    head = Head()
    for module in head.modules():
        if isinstance(module, nn.BatchNorm2d):
            for name, low, high in (
                ("weight", 0.5, 1.5),
                ("bias", -0.5, 0.5),
                ("running_mean", -0.5, 0.5),
                ("running_var", 0.5, 1.5),
            ):
                getattr(module, name).data.uniform_(low, high)
    stage5 = torch.randn(2, CHANNELS, 7, 9)
    stage4 = stage5.flip(1)
    size = [STRIDE * (n - 1) + 1 for n in stage5.shape[2:]]
    maps, arrays = {"map": stage5}, variables(head)
    with torch.no_grad():
        head.eval()
        for pooling in POOLS:
            for reduce in (True, False):
                which = "reduced" if reduce else "whole"
                maps[f"{pooling} {which}"] = head.pyramid(stage5, pooling, reduce)
        maps["logits evaluation"], _ = head(stage5, stage4, size)
        head.train()
        both = head(stage5, stage4, size)
        maps["logits training"], maps["aux_logits training"] = both
    for key, value in maps.items():
        step = 3 if "logits" in key else 1
        arrays[key] = value[..., ::step, ::step].permute(0, 2, 3, 1)
    path = Path(__file__).parent / "pspnet.npz"
    arrays = {key: value.detach().numpy() for key, value in arrays.items()}
    np.savez_compressed(path, **arrays)


if __name__ == "__main__":
    main()
