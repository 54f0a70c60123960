"""Rules for a number as target."""
