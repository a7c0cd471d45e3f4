"""Workloads: what a run trains."""
