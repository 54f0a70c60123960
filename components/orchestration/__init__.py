"""When and where code runs: DVC, Ray clusters, retraining, services. No model code."""
