"""Pure functions on arrays: no parameters, static shapes, the same under `jit` and `vmap`."""
