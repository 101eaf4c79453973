"""Normalisation of feature maps."""
