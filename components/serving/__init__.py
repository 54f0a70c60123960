"""A model behind HTTP: requests, replicas, rollout of new versions."""
