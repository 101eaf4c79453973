"""Trained networks as programs that run without segjax."""
