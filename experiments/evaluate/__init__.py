"""Evaluation of a saved model: held-out loss, exact match, downstream tasks, MT-bench, and comparisons."""
