"""Gradients become updates: optimizers by name, their rates, and averages of the weights."""
