"""Boxes, and the regions of feature maps that they frame."""
