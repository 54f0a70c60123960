"""What encoders of texts share."""
