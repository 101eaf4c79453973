"""The scripts here are run by hand; they import references that tests do without."""

collect_ignore_glob = ["make_*.py"]
