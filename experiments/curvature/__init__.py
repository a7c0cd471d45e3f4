"""Gradients, curvature and noise of a model's blocks, which the theorems make assumptions on."""
