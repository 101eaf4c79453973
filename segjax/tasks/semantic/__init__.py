"""A class for each pixel: loss, evaluation, prediction, pictures."""
