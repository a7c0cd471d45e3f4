"""Bounds: theorems on block coordinate descent, checked line by line on the trajectories of `bcd`."""
