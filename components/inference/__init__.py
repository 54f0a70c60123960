"""A bundle that answers: the same answers in evaluate and in serve."""
