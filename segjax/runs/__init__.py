"""Whole runs, for the command line and for Python: load, evaluate, predict, import, tune."""
