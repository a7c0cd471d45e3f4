"""Records of the theory for the paper's tests: worst cases and curves as their commands measure them, but small."""

import re
import shutil
from typing import Any

import pytest

from paper import numbers
from records import Record
from tests.paper import small
from tests.paper.small import PROVENANCE
from theory.curves import __main__ as curves
from theory.worst_case import __main__ as worst_case

CERTIFICATES = ("epoch-D2", "triangular-D2", "convex-L1-1-n8", "descent-K2-ratio2", "badam-D2-K1-a0.5-ratio2")
WORST = {"blocks": [1, 2], "triangular_blocks": [2], "inner_steps": [1, 2], "inner_steps_blocks": 2, "ratios": [2]}
CURVES: dict[str, Any] = {
    "blocks": [2, 4],
    "gammas": [0.5, 1.0],
    "inner_steps": [1, 2],
    "contraction": {**curves.CONFIG["contraction"], "gammas": [0.5, 1.0]},
    "floor": {
        "chances": [0.3],
        "inner_steps": [1, 2],
        "eps": 1e-8,
        "alphas": {"0.3": [0.1, 0.05]},
        "simulated_steps": [1, 2],
        "runs": 50,
    },
    "vacuous": {
        "blocks": 4,
        "coordinates": 1000,
        "inner_steps": [1, 100],
        "long": [1, 10000],
        "log_eps": [-8, -4, 0],
    },
    "match": {
        "setting": {"blocks": 2, "size": 1, "share": 0.5, "rates": [0.25], "longest": 200, "groups": 2, "runs": 4},
        "couplings": [0.0, 1.0],
        "inner_steps": [1, 2],
        "floor_steps": [1, 50, 200],
    },
}


@pytest.fixture(scope="session")
def worst_case_record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    folder = tmp_path_factory.mktemp("certificates")
    for name in CERTIFICATES:
        shutil.copy(worst_case.FOLDER / f"{name}.json", folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worst_case, "FOLDER", folder)
        measured = worst_case.measure(WORST)
    return Record("verify", "worst_case", "tables", "k", "finished", WORST, measured, PROVENANCE)


@pytest.fixture(scope="session")
def curves_record() -> Record:
    return Record("verify", "curves", "curves", "k", "finished", CURVES, curves.measure(CURVES), PROVENANCE)


@pytest.fixture(scope="session")
def theory(worst_case_record: Record, curves_record: Record) -> dict[str, list[Record]]:
    """What the numbers need besides the quick study."""
    return {
        "theory": small.theory_records(),
        "worst_case": [worst_case_record],
        "curves": [curves_record],
        "practice": [small.practice_record()],
        "adversary": [small.adversary_record()],
        "cost": small.of_study("cost"),
        "predicted": small.of_study("cost_predicted"),
        "other": small.of_study("cost_h200"),
        "execution": small.execution_records(),
    }


@pytest.fixture(scope="session")
def macros(theory: dict[str, list[Record]]) -> dict[str, str]:
    """Every number of the text, of the small records and without studies."""
    text = numbers.text(quick=small.quick_records(), **theory)
    return dict(re.findall(r"\\newcommand\{\\(\w+)\}\{(.*)\}", text))
