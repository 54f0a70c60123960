"""Gates, release log, promotion."""
