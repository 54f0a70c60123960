"""Create pipelines: measure a source, and derive the params from it."""
