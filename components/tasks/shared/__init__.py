"""Code that facets of several tasks share, by facet: a stage depends on the facets that it uses."""
