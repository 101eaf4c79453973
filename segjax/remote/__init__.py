"""Folders in stores of objects, such as gs:// and s3://, as copies on this machine."""
