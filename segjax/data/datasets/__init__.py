"""Data sets by name, each from its own files; `synthetic` ones need none."""
