"""Training examples whose label is a list of instances."""
