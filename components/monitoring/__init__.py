"""What a service was asked, whether that is still what its model was trained on, and what people say of its answers."""
