"""COCO's annotation files, and whatever is written in their form."""
