"""A pipeline or one stage, run and resumed."""
