"""Update rules of the active block: pure functions `init` and `update` on lists of tensors, one file a rule."""

from bcd.rules.adam import Adam
from bcd.rules.rule import Rule, State
from bcd.rules.sgd import SGD

__all__ = ["SGD", "Adam", "Rule", "State"]
