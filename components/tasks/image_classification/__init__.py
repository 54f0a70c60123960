"""A small picture in, one class out."""
