"""Image -> named feature maps; `BACKBONES` names them for the configs."""

from collections.abc import Callable

import flax.linen as nn

from segjax.backbones.alexnet import AlexNet
from segjax.backbones.googlenet import GoogLeNet
from segjax.backbones.mix_transformer import MixTransformer
from segjax.backbones.mobilenet_edgetpu import MobileNetEdgeTPU
from segjax.backbones.mobilenet_v2 import MobileNetV2
from segjax.backbones.mobilenet_v3 import MobileNetV3
from segjax.backbones.resnet import ResNet
from segjax.backbones.vgg import VGG
from segjax.backbones.xception import Xception
from segjax.backbones.zf_spp import ZFSPP

BACKBONES: dict[str, Callable[..., nn.Module]] = {
    "alexnet": AlexNet,
    "googlenet": GoogLeNet,
    "mix_transformer": MixTransformer,
    "mobilenet_edgetpu": MobileNetEdgeTPU,
    "mobilenet_v2": MobileNetV2,
    "mobilenet_v3": MobileNetV3,
    "resnet": ResNet,
    "vgg": VGG,
    "xception": Xception,
    "zf_spp": ZFSPP,
}
