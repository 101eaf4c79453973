"""Mask R-CNN, and with it Faster R-CNN and Keypoint R-CNN."""

from segjax.models.mask_rcnn.model import MaskRCNN as MaskRCNN
