"""What differs between labelling pixels and finding instances: one folder for each."""
