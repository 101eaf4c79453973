"""Integers about images: accepted sizes, receptive fields, alignment, tiles. No array is touched."""
