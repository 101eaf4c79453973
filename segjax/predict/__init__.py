"""Predictions for images of any size: tiles, stacks, folders, files."""
