"""Errors, params, files, tables, bundles, the job of a stage: what every room stands on."""
