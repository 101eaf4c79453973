"""Instances with boxes, masks and keypoints: loss, evaluation, prediction, pictures."""
