"""Training examples whose label is a class for each pixel."""
