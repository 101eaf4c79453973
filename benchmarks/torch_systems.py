"""The networks of benchmarks/bench_systems.py in PyTorch."""

from __future__ import annotations

import runpy
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

TESTS = Path(__file__).resolve().parent.parent / "tests"


def torchvision() -> object:
    """torchvision, beside a PyTorch that knows no CUDA, too."""
    return runpy.run_path(str(TESTS / "torchvision_reference.py"))["torchvision"]()


class SegNetBasic(nn.Module):
    """SegNet-Basic (arXiv 1511.00561), by the names of segjax/models/segnet_basic.py."""

    def __init__(self, num_classes: int, features: int = 64, levels: int = 4):
        super().__init__()
        layers: dict[str, nn.Module] = {}
        for i in range(1, levels + 1):
            channels = 3 if i == 1 else features
            layers[f"conv{i}"] = nn.Conv2d(channels, features, 7, padding=3)
            layers[f"norm{i}"] = nn.BatchNorm2d(features)
            layers[f"conv_decode{i}"] = nn.Conv2d(features, features, 7, padding=3)
            layers[f"norm_decode{i}"] = nn.BatchNorm2d(features)
        layers["logits"] = nn.Conv2d(features, num_classes, 1)
        self.layers = nn.ModuleDict(layers)
        self.levels = levels

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x, pooled = functional.local_response_norm(image, 5), []
        for i in range(1, self.levels + 1):
            x = self.layers[f"norm{i}"](self.layers[f"conv{i}"](x)).relu()
            size = x.shape[2:]
            x, indices = functional.max_pool2d(
                x, 2, ceil_mode=True, return_indices=True
            )
            pooled.append((indices, size))
        for i in range(self.levels, 0, -1):
            indices, size = pooled[i - 1]
            x = functional.max_unpool2d(x, indices, 2, output_size=size)
            x = self.layers[f"norm_decode{i}"](self.layers[f"conv_decode{i}"](x))
        return self.layers["logits"](x)


class First(nn.Module):
    """The logits of a torchvision model of segmentation."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.model(image)["out"]


class PSPNet(nn.Module):
    """PSPNet (arXiv 1612.01105) on torchvision's ResNet-50, at output stride 8.

    The modules of the head have the names of segjax/models/pspnet.py.
    """

    def __init__(self, num_classes: int, bins: tuple[int, ...] = (1, 2, 3, 6)):
        super().__init__()
        strides = [False, True, True]
        resnet50 = torchvision().models.resnet50
        self.backbone = resnet50(weights=None, replace_stride_with_dilation=strides)
        self.backbone.fc = nn.Identity()
        head = {f"bins{n}": conv_norm(2048, 512, 1) for n in bins}
        head |= {
            "fuse": conv_norm(4096, 512, 3),
            "logits": nn.Conv2d(512, num_classes, 1),
        }
        self.head = nn.ModuleDict(head)
        self.bins = bins

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        trunk = self.backbone
        x = trunk.maxpool(trunk.relu(trunk.bn1(trunk.conv1(image))))
        x = trunk.layer4(trunk.layer3(trunk.layer2(trunk.layer1(x))))
        grids = [
            resized(self.head[f"bins{n}"](functional.adaptive_avg_pool2d(x, n)), x)
            for n in self.bins
        ]
        x = self.head["fuse"](torch.cat([x, *grids], 1))
        x = functional.dropout(x, 0.1, self.training)
        return resized(self.head["logits"](x), image)


def conv_norm(inputs: int, outputs: int, side: int) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, side, padding=side // 2, bias=False)
    layers = {"conv": conv, "norm": nn.BatchNorm2d(outputs), "relu": nn.ReLU()}
    block = nn.Sequential()
    for name, layer in layers.items():
        block.add_module(name, layer)
    return block


def resized(x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    size = like.shape[2:]
    return functional.interpolate(x, size, mode="bilinear", align_corners=True)
