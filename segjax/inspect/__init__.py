"""Reports on networks and runs that train nothing."""
