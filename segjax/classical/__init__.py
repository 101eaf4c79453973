"""What needs no network: thresholds and watersheds, to measure trained networks against."""
