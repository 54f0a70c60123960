"""Networks with no task word in them, each with the surgery that can cut it."""
