"""Objectives with certified constants: one file each, all with the interface `Problem`."""

from theory.problems.problem import Problem, ProblemFamily

__all__ = ["Problem", "ProblemFamily"]
