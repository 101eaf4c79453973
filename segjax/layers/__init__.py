"""Linen modules that more than one network uses."""

from segjax.lazy import exports

TYPE_CHECKING = False  # for type checkers it is True; importing `typing` takes time
if TYPE_CHECKING:
    from segjax.layers.aspp import ASPP as ASPP
    from segjax.layers.conv import Conv as Conv
    from segjax.layers.conv import UpConv as UpConv
    from segjax.layers.conv_norm import ConvNorm as ConvNorm
    from segjax.layers.crf import DenseCRF as DenseCRF
    from segjax.layers.fpn import FPN as FPN
    from segjax.layers.inverted_residual import InvertedResidual as InvertedResidual
    from segjax.layers.inverted_residual import SqueezeExcitation as SqueezeExcitation
    from segjax.layers.norm import BatchNorm as BatchNorm
    from segjax.layers.norm import GroupNorm as GroupNorm
    from segjax.layers.pyramid_pooling import PyramidPooling as PyramidPooling
    from segjax.layers.separable import SeparableConvNorm as SeparableConvNorm
    from segjax.layers.upsample import Upsample as Upsample

__getattr__, __dir__ = exports(__name__)
