"""Files that are written: whose they are, how they become whole, who writes at a time."""
