"""The stage `compress`."""
