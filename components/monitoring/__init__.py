"""Monitoring of a service: request log, drift against the training data, and feedback."""
