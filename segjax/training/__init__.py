"""The training of every network: one loop, one jitted step, checkpoints."""
