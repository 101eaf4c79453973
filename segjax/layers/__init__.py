"""Linen modules that more than one network uses."""
