"""One paper, one file; `MODELS` names them for the configs."""

from segjax.models.unet import UNet

MODELS = {"unet": UNet}
