"""One paper, one file; `MODELS` names them for the configs."""

from segjax.models.crf_rnn import CRFRNN
from segjax.models.deconvnet import DeconvNet
from segjax.models.deeplab_v1 import DeepLabV1
from segjax.models.deeplab_v2 import DeepLabV2
from segjax.models.deeplab_v3 import DeepLabV3
from segjax.models.deeplab_v3plus import DeepLabV3Plus
from segjax.models.dilated import DilatedNet
from segjax.models.encoder_decoder import EncoderDecoder
from segjax.models.fcn import FCN
from segjax.models.lraspp import LRASPP
from segjax.models.mask_rcnn import MaskRCNN
from segjax.models.pspnet import PSPNet
from segjax.models.segformer import SegFormer
from segjax.models.segnet import SegNet
from segjax.models.segnet_basic import SegNetBasic
from segjax.models.semantic_fpn import SemanticFPN
from segjax.models.sliding_window import SlidingWindow
from segjax.models.unet import UNet
from segjax.models.unet_backbone import UNetBackbone

MODELS = {
    "crf_rnn": CRFRNN,
    "deconvnet": DeconvNet,
    "deeplab_v1": DeepLabV1,
    "deeplab_v2": DeepLabV2,
    "deeplab_v3": DeepLabV3,
    "deeplab_v3plus": DeepLabV3Plus,
    "encoder_decoder": EncoderDecoder,
    "fcn": FCN,
    "dilated": DilatedNet,
    "lraspp": LRASPP,
    "mask_rcnn": MaskRCNN,
    "pspnet": PSPNet,
    "segformer": SegFormer,
    "segnet": SegNet,
    "segnet_basic": SegNetBasic,
    "semantic_fpn": SemanticFPN,
    "sliding_window": SlidingWindow,
    "unet": UNet,
    "unet_backbone": UNetBackbone,
}
