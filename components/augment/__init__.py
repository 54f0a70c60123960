"""The stage `augment`."""
