"""The service in Ray Serve."""
