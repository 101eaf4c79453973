"""Forms that are fast on XLA's CPU backend, each equal to its plain definition to rounding."""
