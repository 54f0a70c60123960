"""The stage `train`."""
