"""New pipelines: what a source holds, and the params that follow from it."""
