"""A linear path over counted n-grams, joined to a TextCNN."""
