"""Workloads: what a run trains, in one form for the training loop, its records and the studies."""

from experiments.workloads.interface import Batch, DataSource, Source, Task, Workload
from experiments.workloads.target import Target

__all__ = ["Batch", "DataSource", "Source", "Target", "Task", "Workload"]
