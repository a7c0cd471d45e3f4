"""Entry point: `python -m experiments.profile [option=value ...]`: time and memory of training steps.

    python -m experiments.profile model=llama3_8b method=badam_exact tokens=2048        # predicts bytes, needs no GPU
    python -m experiments.profile method=badam_exact,peer/lisa,peer/lora,adamw          # does it fit? one row each
    python -m experiments.profile device=cuda method=peer/badam,peer/lora tokens=8192   # measures on the GPU
    python -m experiments.profile sweep=cost device=cuda                                # the paper's study of cost

A list of values makes one run each. Weights are random unless model.path=FOLDER_OR_HUB_NAME is given. Every measured
run leaves a record, also one that ran out of memory. GB = 10^9 bytes.
"""

import itertools
import sys
import traceback
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from cli.help import answer

if __name__ == "__main__":
    answer(sys.argv[1:], "profile", "experiments.profile", __doc__)  # before what takes seconds to import

import hydra
import torch
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from tqdm import tqdm

from cli.errors import require_plain
from experiments.command import CONF, exit_codes, spelled_out
from experiments.configuration import folder
from experiments.cost import case, show
from experiments.cost.case import Case, compose
from experiments.cost.measure import clear
from experiments.cost.predict import Prediction
from experiments.errors import UserError
from records import Record, write


def runs(arguments: Sequence[str]) -> list[tuple[str, list[str]]]:
    """The runs that the arguments ask for: those of a sweep, or the product of lists.

    Of a sweep only=PART,... selects the runs whose names have one of these parts.

    Returns:
        Name ("" for none) and overrides of each run.

    Raises:
        UserError: for a sweep that does not exist or of which nothing is left.
    """
    overrides = [item for item in arguments if item not in ("-m", "--multirun")]
    selection = {
        key: value for key, _, value in (item.partition("=") for item in overrides) if key in ("sweep", "only")
    }
    overrides = [item for item in overrides if not item.startswith(("sweep=", "only="))]
    keys = {item.lstrip("+").partition("=")[0] for item in overrides}
    if "model.path" in keys and "weights" not in keys:
        overrides.append("weights=real")
    if "sweep" not in selection:
        if "only" in selection:
            raise UserError(f"only={selection['only']} chooses runs of a sweep; give sweep=NAME too")
        return [("", list(values)) for values in product(overrides)]
    path = CONF / "sweep" / f"{selection['sweep']}.yaml"
    if not path.is_file():
        names = ", ".join(sorted(file.stem for file in path.parent.glob("*.yaml")))
        raise UserError(f"sweep={selection['sweep']} is not one of {names}")
    sweep = yaml.safe_load(path.read_text(encoding="utf-8"))
    parts = selection.get("only", "").split(",")
    selected = [
        (name, [f"series={path.stem}", *sweep["overrides"], *of_run, *overrides])
        for name, of_run in sweep["runs"].items()
        if any(part in name for part in parts)
    ]
    if not selected:
        raise UserError(f"only={selection['only']} is in no name of {', '.join(sweep['runs'])}")
    return selected


def product(overrides: Sequence[str]) -> list[tuple[str, ...]]:
    """One tuple of overrides for each combination of listed values.

    >>> product(["method=badam,lora", "tokens=64"])
    [('method=badam', 'tokens=64'), ('method=lora', 'tokens=64')]
    """
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    each = []
    for text, override in zip(overrides, parsed, strict=True):
        key = text.partition("=")[0]
        listed = override.is_sweep_override()
        each.append([f"{key}={value}" for value in override.sweep_string_iterator()] if listed else [text])
    return list(itertools.product(*each))


def measure(chosen: Case) -> Record:
    """Measure, and write the record; a run that fails is recorded with its error, and raises nothing."""
    measurements: dict[str, Any] = {}
    error = ""
    try:
        measurements |= case.measured(chosen)
    except UserError:
        raise
    except torch.OutOfMemoryError as failure:
        error = f"out of memory: {str(failure).splitlines()[0]}"
    except Exception as failure:  # what stops one run is its result; the others go on
        traceback.print_exc()
        error = f"{type(failure).__name__}: {failure}"
    clear(chosen.config.device)
    measurements["predicted"] = asdict(case.predicted(chosen)) if chosen.config.predict else {}
    record = case.record(chosen, chosen.config.series, measurements, error)
    write(record, folder(chosen.config))
    return record


def forecast(chosen: Case) -> Prediction:
    """Predict; the runs of a sweep leave records, in the study SWEEP_predicted."""
    prediction = case.predicted(chosen)
    if chosen.config.series != "profile":
        record = case.record(chosen, f"{chosen.config.series}_predicted", {"predicted": asdict(prediction)})
        write(record, folder(chosen.config))
    return prediction


def run(arguments: Sequence[str]) -> bool:
    """Everything that the arguments ask for, printed.

    Returns:
        Whether every run succeeded.
    """
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        cases = [compose(overrides, name) for name, overrides in runs(spelled_out(arguments, "profile"))]
    fake = [chosen for chosen in cases if chosen.config.device == "fake"]
    if fake:
        with tqdm(fake, desc="predict", unit="run", leave=False) as bar:
            predictions = [forecast(chosen) for chosen in bar]
        print(
            show.prediction(predictions[0], fake[0]) if len(fake) == 1 else show.predictions(predictions, fake),
            flush=True,
        )
    records = []
    for chosen in (chosen for chosen in cases if chosen.config.device != "fake"):
        records.append(measure(chosen))
        print(show.measurement(records[-1]), flush=True)
    if len(records) > 1:
        print(show.comparison(records), flush=True)
    return all(record.status == "finished" for record in records)


def main() -> None:
    arguments = sys.argv[1:]
    answer(arguments, "profile", "experiments.profile", __doc__)
    where = "conf/profile.yaml lists them, and execution=plain, which is not the default here, has those of a step"
    with exit_codes(where, arguments):
        require_plain(arguments)
        succeeded = run(arguments)
    if not succeeded:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
