"""Trained networks as ONNX graphs, for runtimes that know nothing of JAX."""
