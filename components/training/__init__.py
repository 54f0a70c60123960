"""Fit, measure, predict: the training loop, Ray Train around it, and what answers from a bundle."""
