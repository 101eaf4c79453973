"""One paper, one file; `MODELS` names them for the configs."""

from segjax.models.segnet import SegNetBasic
from segjax.models.unet import UNet

MODELS = {"segnet_basic": SegNetBasic, "unet": UNet}
