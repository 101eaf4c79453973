"""Image -> named feature maps; `BACKBONES` names them for the configs."""

from collections.abc import Callable

import flax.linen as nn

from segjax.backbones.alexnet import AlexNet
from segjax.backbones.googlenet import GoogLeNet
from segjax.backbones.resnet import ResNet
from segjax.backbones.vgg import VGG

BACKBONES: dict[str, Callable[..., nn.Module]] = {
    "alexnet": AlexNet,
    "googlenet": GoogLeNet,
    "resnet": ResNet,
    "vgg": VGG,
}
