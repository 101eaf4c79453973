"""Which files may be written: a user's own are never overwritten."""
