"""The U-Net of segjax/models/unet.py in PyTorch, with weights taken over from it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn
from torch.nn import functional


class UNet(nn.Module):
    """Two 3x3 convolutions a level, as in figure 1 of arXiv 1505.04597."""

    def __init__(self, num_classes: int, features: tuple[int, ...], margin: int):
        super().__init__()
        *levels, bottom = features
        blocks, below = {}, 1
        for i, width in enumerate(levels, 1):
            blocks[f"down{i}"] = double_conv(below, width, margin)
            below = width
        blocks["bottom"] = double_conv(below, bottom, margin)
        below = bottom
        for i, width in reversed(list(enumerate(levels, 1))):
            blocks[f"upsample{i}"] = nn.ConvTranspose2d(below, width, 2, 2)
            blocks[f"up{i}"] = double_conv(2 * width, width, margin)
            below = width
        blocks["logits"] = nn.Conv2d(below, num_classes, 1)
        self.blocks = nn.ModuleDict(blocks)
        self.depth = len(levels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skips = []
        for i in range(1, self.depth + 1):
            x = self.blocks[f"down{i}"](x)
            skips.append(x)
            x = functional.max_pool2d(x, 2)
        x = self.blocks["bottom"](x)
        for i in range(self.depth, 0, -1):
            x = self.blocks[f"upsample{i}"](x)
            skip = skips[i - 1]
            top = (skip.shape[2] - x.shape[2]) // 2
            left = (skip.shape[3] - x.shape[3]) // 2
            skip = skip[:, :, top : top + x.shape[2], left : left + x.shape[3]]
            x = self.blocks[f"up{i}"](torch.cat([x, skip], 1))
        return self.blocks["logits"](x)

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Takes over "down1/conv1/kernel" and so on; every parameter must be there."""
        state = {}
        for path, array in arrays.items():
            block, *convolution, kind = path.split("/")
            if convolution:
                block += f".{2 * int(convolution[0][-1]) - 2}"
            name = "weight" if kind == "kernel" else "bias"
            if array.ndim == 4:
                array = np.ascontiguousarray(array.transpose(3, 2, 0, 1))
            state[f"blocks.{block}.{name}"] = torch.from_numpy(array)
        self.load_state_dict(state)


def double_conv(channels: int, features: int, margin: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, features, 3, padding=margin),
        nn.ReLU(inplace=True),
        nn.Conv2d(features, features, 3, padding=margin),
        nn.ReLU(inplace=True),
    )
