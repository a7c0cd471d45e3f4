"""Methods and variants at equal tokens."""

from paper.tables import methods_in_numbers, variants_in_numbers
from tests.paper import synthetic
from tests.paper.synthetic import of


def test_tables_of_methods_and_variants():
    text = methods_in_numbers.text(of("methods"), of("steps_alone"))
    rows = [line.split(" & ") for line in text.splitlines() if " & " in line][2:]
    assert rows[0][0] == "AdamW"
    assert len(rows) == len(synthetic.LOSSES) + len(synthetic.OTHERS)
    (badam,) = (row for row in rows if row[0] == "BAdam")
    assert badam[-1] == r"20.0 \\"
    best = [
        line
        for line in variants_in_numbers.text(of("variants"), of("methods"), []).splitlines()
        if "10 layers" in line
    ]
    assert len(best) == 1
    assert best[0].endswith(r"-- & no \\"), "no time was measured, and the loss alone is too high"
