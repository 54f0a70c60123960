"""Small convolutional network for pictures."""
