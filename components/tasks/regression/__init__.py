"""What every regression task shares: learning and judging one number."""
