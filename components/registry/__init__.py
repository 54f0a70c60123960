"""MLflow: runs, model versions, gates, release."""
