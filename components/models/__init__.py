"""Networks without task words, each with its config."""
