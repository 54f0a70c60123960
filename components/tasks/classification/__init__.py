"""What every classification task shares: learning and judging one class out of a few."""
