"""The HTTP service around one loaded model, with no Ray in it."""
