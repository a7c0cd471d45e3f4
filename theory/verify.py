"""Entry point: problem x bound -> trajectories -> every line of the proof -> one record.

    python -m theory.verify                                   the quick sweep of conf/verify.yaml
    python -m theory.verify bound=a1 problem=quadratic tier=full force=true

Exit codes: 0 everything holds, 1 a violated line or a negative control that was not rejected, 2 bad input.
"""

import math
import sys
from collections.abc import Sequence
from typing import Any

import hydra
import numpy as np
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from tqdm import tqdm

import records
from records.provenance import provenance, source_hash
from theory.bounds import Bound, Outcome
from theory.ledger import TOLERANCE, Ledger
from theory.problems import ProblemFamily

UNRECORDED = ("force", "records_dir", "tiers")
"""Keys that change where or whether a run happens, not its result (`tiers` acts through the values it sets)."""


def finite(value: float) -> float | None:
    """JSON has no infinity and no NaN."""
    return float(f"{value:.9g}") if math.isfinite(value) else None


def measure(bound: Bound, family: ProblemFamily) -> dict[str, Any]:
    """Run the sweep, the showcase and the negative controls; everything as JSON values."""
    cases = [(problem, setting) for problem in family.instances() for setting in bound.settings(problem)]
    total = Ledger()
    outcomes: list[Outcome] = []
    for problem, setting in tqdm(cases, desc="instances", unit="instance", disable=None):
        outcomes.append(bound.evaluate(problem, **setting))
        total.merge(outcomes[-1].ledger)
    # One column for each quantity: a list of mappings would be several times longer in the file.
    identity = [{**problem.parameters, **setting} for problem, setting in cases]
    columns = {name: [row[name] for row in identity] for name in identity[0]}
    example = family.showcase()
    showcase = bound.showcase(example)
    controls = list(bound.controls())
    violations = total.violations + showcase.ledger.violations
    return {
        "tolerance": TOLERANCE,
        "lines": {name: line.summary() for name, line in total.lines.items()},
        "kind": outcomes[0].kind,
        "instances": {
            **columns,
            "measured": [finite(outcome.measured) for outcome in outcomes],
            "bound": [finite(outcome.bound) for outcome in outcomes],
            "ratio": [finite(outcome.measured / outcome.bound) for outcome in outcomes],
        },
        "showcase": {
            "parameters": example.parameters,
            **{name: [finite(value) for value in values] for name, values in showcase.series.items()},
            "ratios": {name: line.series for name, line in showcase.ledger.lines.items()},
            "lines": {name: line.summary() for name, line in showcase.ledger.lines.items()},
        },
        "controls": [
            {
                "name": control.name,
                "line": control.line,
                "ratio": finite(control.ratio),
                "true_ratio": finite(control.true_ratio),
                "rejected": control.rejected,
            }
            for control in controls
        ],
        "violations": violations,
        "holds": violations == 0 and all(control.rejected for control in controls),
    }


def number(value: float | None, digits: int = 4) -> str:
    """`value` for the table; a ratio with a right side that is not positive has none."""
    return "none" if value is None else f"{value:.{digits}f}"


def table(measurements: dict[str, Any]) -> list[str]:
    """The report, from the measurements of a record."""
    rows = [f"{'line':10}{'checks':>10}{'resolved':>10}{'instances':>11}{'largest ratio':>15}{'violations':>12}"]
    for name, line in measurements["lines"].items():
        rows.append(
            f"{name:10}{line['checks']:>10}{line['resolved']:>10}{line['instances']:>11}"
            f"{number(line['largest_ratio'], 6):>15}{line['violations']:>12}"
        )
        if line["first_violation"]:
            rows.append(f"  first violation: {line['first_violation']}")
    ratios = np.array([ratio for ratio in measurements["instances"]["ratio"] if ratio is not None])
    rows += [
        "",
        f"measured/bound on {len(ratios)} instances ({measurements['kind']}): "
        f"median {np.median(ratios):.4f}, largest {ratios.max():.4f}",
        "",
        f"{'negative control':28}{'line':10}{'ratio':>8}{'true':>8}",
    ]
    for control in measurements["controls"]:
        verdict = "REJECTED" if control["rejected"] else "NOT REJECTED"
        both = f"{number(control['ratio'], 3):>8}{number(control['true_ratio'], 3):>8}"
        rows.append(f"{control['name']:28}{control['line']:10}{both}  {verdict}")
    rejected = sum(control["rejected"] for control in measurements["controls"])
    checks = sum(line["checks"] for line in measurements["lines"].values())
    rows += [
        "",
        f"{'HOLDS' if measurements['holds'] else 'FAILS'}: {checks} checks, {measurements['violations']} violations, "
        f"{rejected} of {len(measurements['controls'])} negative controls rejected",
    ]
    return rows


def study_name(overrides: Sequence[str]) -> str:
    """ "theory" for the sweeps of conf/; overrides of their values make another study, so that these stay pure."""
    axes = ("bound=", "problem=", "tier=", "force=", "records_dir=")
    extra = [item for item in overrides if not item.lstrip("+").startswith(axes)]
    return f"theory-{records.digest(extra)[:8]}" if extra else "theory"


def run(config: DictConfig, study: str, name: str) -> int:
    """Verify, or read the finished record of the same config and code; print the report; return the exit code.

    study, name: of the record.

    Raises ValueError or InstantiationException when a value of the config is not possible.
    """
    resolved = OmegaConf.to_container(config, resolve=True)
    assert isinstance(resolved, dict)  # for the type checker: a DictConfig gives a dict
    identity: dict[str, Any] = {str(key): value for key, value in resolved.items() if key not in UNRECORDED}
    bound: Bound = hydra.utils.instantiate(config.bound, _convert_="all")
    family: ProblemFamily = hydra.utils.instantiate(config.problem, _convert_="all")
    folder = records.ROOT / config.records_dir
    key = records.run_key(identity, {"code": source_hash(("bcd", "theory"))})
    record = None if config.force else records.find(study, name, key, folder)
    if record:
        print(f"finished before, read from {record.path} (force=true computes it again)\n")
    else:
        origin = provenance("cpu")
        torch.set_num_threads(1)  # blocks have a few coordinates; threads only wait for each other
        measurements = measure(bound, family)
        record = records.Record("verify", study, name, key, "finished", identity, measurements, origin)
        print(f"wrote {records.write(record, folder)}\n")
    print("\n".join(table(record.measurements)))
    return 0 if record.measurements["holds"] else 1


@hydra.main(config_path="../conf", config_name="verify", version_base="1.3")
def main(config: DictConfig) -> None:
    choices, overrides = HydraConfig.get().runtime.choices, HydraConfig.get().overrides.task
    try:
        code = run(config, study_name(overrides), f"{choices['bound']}-{choices['problem']}-{config.tier}")
    except (ValueError, InstantiationException, OmegaConfBaseException) as error:
        # Hydra wraps what a constructor raises and adds its own words; the cause is the message.
        print(f"error: {error.__cause__ or error}", file=sys.stderr)
        code = 2
    sys.exit(code)


if __name__ == "__main__":
    main()
