"""Experiments: models, data, methods, and the one training loop that runs them all."""
