"""The stage `serve`."""
