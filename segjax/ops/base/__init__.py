"""Foundations of several subjects of `segjax.ops`."""
