"""Resizing, upsampling and cropping of feature maps."""
