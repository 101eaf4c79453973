"""The other files of a run: its config, its log, its pictures, its report."""
