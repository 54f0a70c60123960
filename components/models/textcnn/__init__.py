"""TextCNN (Kim 2014)."""
