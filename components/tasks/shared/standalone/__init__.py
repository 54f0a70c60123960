"""Code of the facet standalone.py that several tasks share."""
