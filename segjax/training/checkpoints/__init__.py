"""The state of a run on disk: saved whole, sealed, restored bit for bit."""
