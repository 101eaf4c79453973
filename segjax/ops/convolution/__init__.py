"""Convolution and transposed convolution, as the lectures define them."""
