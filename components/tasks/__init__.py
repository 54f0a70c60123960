"""Learning problems: the protocol, and a folder per task."""
