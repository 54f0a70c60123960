"""Text in, one class out."""
