"""What the stages do: no DVC, no command line."""
