"""Mutants and the tightest instances."""

from paper.tables import mutations, tightness
from records import Record
from tests.paper.small import adversary_record


def test_the_mutation_table_keeps_the_clearest_witness_and_says_what_survives():
    record = adversary_record()
    weaker = {**record.measurements["mutants"][2], "ratio": 1.1}
    measured = record.measurements | {"mutants": [weaker, *record.measurements["mutants"]]}
    rows = mutations.text([Record(**{**vars(record), "measurements": measured})]).splitlines()[4:-2]
    assert rows[0] == r"A1 & each of 2 lines $\times2$ & Lemma T & 1.500 & 1.000 & 1.33 & 2 of 2 killed \\"
    assert rows[1] == r" & coupling $\Lambda$: dropped & Lemma T & $\infty$ & 1.000 & -- & killed \\"
    assert rows[2] == r" & $R$: halved & epoch & 0.900 & 1.000 & 2.22 & survives \\"
    assert len(rows) == 3
    # of two changes that are refuted at once one row says so, with the one that is refuted less clearly
    at_once = {**record.measurements["mutants"][2], "mutant": "constant = 2", "ratio": 1.7, "dies_at": 1.02}
    measured["mutants"].append(at_once)
    rows = mutations.text([Record(**{**vars(record), "measurements": measured})]).splitlines()[4:-2]
    assert rows[1] == r" & $R$: halved & epoch & 0.900 & 1.000 & 2.22 & survives \\"
    assert rows[2] == r" & each of 2 other changes & Lemma T & 1.700 & 1.000 & 1.02 & 2 of 2 killed \\"
    assert len(rows) == 3
    assert "two scalar blocks, $K=1$ & epoch & 0.9999" in tightness.text([record])
