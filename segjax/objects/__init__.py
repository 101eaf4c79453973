"""From what each pixel is to objects: separated, linked through a stack, measured."""
