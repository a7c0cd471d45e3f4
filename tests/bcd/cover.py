"""Combinations of several axes: every pair of values by default, every combination in the slow tests."""

import itertools

import pytest


def cover(*axes):
    """Combinations of one value of each axis, in which every pair of values of two axes occurs; always the same ones.

    As few as a greedy choice finds: the next is the first of those with most pairs that have not occurred.
    """
    combinations = [tuple(enumerate(values)) for values in itertools.product(*axes)]
    pairs = {combination: set(itertools.combinations(combination, 2)) for combination in combinations}
    missing, chosen = set().union(*pairs.values()), []
    while missing:
        best = max(combinations, key=lambda combination: len(pairs[combination] & missing))
        missing -= pairs[best]
        chosen.append(tuple(value for _, value in best))
    return chosen


def product(**axes):
    """Parametrize a test over all combinations; those that are not in the cover are marked slow.

    axes: argument -> its values, a list, or a dict of names and values.
    """
    named = {
        argument: values if isinstance(values, dict) else {str(value): value for value in values}
        for argument, values in axes.items()
    }
    chosen = set(cover(*named.values()))
    rows = [
        pytest.param(
            *(values[name] for values, name in zip(named.values(), names, strict=True)),
            id="-".join(names),
            marks=() if names in chosen else pytest.mark.slow,
        )
        for names in itertools.product(*named.values())
    ]
    return pytest.mark.parametrize(tuple(named), rows)
