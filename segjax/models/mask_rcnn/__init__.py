"""Mask R-CNN, and with it Faster R-CNN and the R-CNN of keypoints."""

from segjax.models.mask_rcnn.model import MaskRCNN as MaskRCNN
