"""The command line: one verb, one file, with its own flags."""
