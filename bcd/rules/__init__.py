"""Update rules of the active block: pure functions `init` and `update` on lists of tensors, one file a rule."""

from bcd.rules.adam import Adam, AdamW
from bcd.rules.factored import Factored
from bcd.rules.momentum import Momentum
from bcd.rules.orthogonalised import Orthogonalised
from bcd.rules.row_normalised import RowNormalised
from bcd.rules.rule import Rule
from bcd.rules.rule import State as State
from bcd.rules.sgd import SGD
from bcd.rules.sign import Sign

__all__ = ["SGD", "Adam", "AdamW", "Factored", "Momentum", "Orthogonalised", "RowNormalised", "Rule", "Sign"]
