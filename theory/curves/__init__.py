"""Curves of the paper's figures: constants of the theorems over D, K and eps, and the floor of stochastic BAdam.

`steps` the effect of D and K, `floor` the mean field beside simulated runs, `vacuous` when a bound begins to say
anything, `match` when block descent needs as few gradients as Adam; `python -m theory.curves` writes the record.
"""
