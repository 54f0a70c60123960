"""Evaluators and reports that the facet evaluator.py of several tasks is made of."""
