"""The programs of the suite run in processes of their own; they are no tests."""

collect_ignore_glob = ["[!t]*.py", "targets.py"]
