"""Data sets that are rendered by our own code, so that nothing has to be downloaded."""
