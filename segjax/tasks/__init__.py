"""The tasks, labelling pixels and finding instances: one folder for each."""
