"""Small records of checked bounds. No number here is a result."""

from typing import Any

from records import Record
from tests.paper.small import PROVENANCE

LINE = {"kind": "inequality", "checks": 10, "resolved": 9, "instances": 5, "largest_ratio": 0.5, "violations": 0}
LINE |= {"decisive": {"first": [2, 3], "second": [0, 3]}}
CONTROL = {"name": "doubled", "line": "bound", "ratio": 2.0, "true_ratio": 1.0, "rejected": True}


def record(bound: str, family: str = "quadratic", tier: str = "quick", **changes: Any) -> Record:
    measured = {
        "lines": {"B.3'": LINE, "bound": LINE | {"largest_ratio": 0.995}, "same": LINE | {"kind": "identity"}},
        "kind": "upper",
        "instances": {"ratio": [0.1, 0.4, 0.2]},
        "precise": {"instances": 2},
        "showcase": {"bound": [3.0, 2.0, 1.0], "measured": [2.0, 1.0, 0.0], "ratios": {}},
        "controls": [CONTROL],
        "violations": 0,
        "unresolved": [],
        "refuted": False,
    }
    config = {"bound": {"problems": ["quadratic", "logistic"], "example": {"epochs": 2}}}
    return Record(
        "verify", "theory", f"{bound}-{family}-{tier}", "k", "finished", config, measured | changes, PROVENANCE
    )


FALSE = record("badam_d4_printed", violations=3, refuted=True, showcase=None, controls=[])
LOWER = record("d3", kind="lower", instances={"ratio": [2.0, 4.0]})
THEORY = [record("a1", "logistic"), record("a1"), FALSE, LOWER, record("z9_new")]
