"""What `experiments.profile` found, as text. GB = 10^9 bytes."""

from collections.abc import Sequence

from experiments.cost.case import GB, Case
from experiments.cost.predict import Prediction
from records import Record


def fits(peak: int, card: float, reserve: float) -> bool:
    """Whether a card of `card` GB holds `peak` bytes and leaves `reserve` GB free."""
    return peak + reserve * GB <= card * GB


def columns(found: Prediction) -> dict[str, int]:
    """Bytes by category and phase."""
    return {
        "weights": found.held.weights,
        "master": found.held.master,
        "gradients": found.held.gradients,
        "state": found.held.state,
        "scratch": found.scratch,
        "activations": found.activations,
        "loss": found.loss,
        "forward": found.phases.forward,
        "backward": found.phases.backward,
        "update": found.phases.update,
        "peak": found.phases.peak,
        "on host": found.held.host,
    }


def _what(chosen: Case) -> str:
    config = chosen.config
    return f"{chosen.batch} x {config.sequence} tokens, {chosen.choices['execution']}"


def prediction(found: Prediction, chosen: Case) -> str:
    """One prediction in full."""
    config = chosen.config
    sizes = columns(found)
    cards = [f"{card:g} {'yes' if fits(found.phases.peak, card, config.reserve) else 'no'}" for card in config.cards]
    of = f", visit {found.visit + 1} of {found.visits} ({found.first} ...)" if found.visits > 1 else ""
    return "\n".join(
        [
            f"{chosen.choices['method']}: {chosen.choices['model']}, {found.weights_count / 1e9:.3f} billion weights "
            f"in {config.dtype}, {_what(chosen)}{of}",
            f"{'GB':<4}" + "".join(f"{name:>12}" for name in sizes),
            f"{'':<4}" + "".join(f"{size / GB:>12.3f}" for size in sizes.values()),
            f"fits a card of (GB, with {config.reserve:g} kept free): {', '.join(cards)}",
            "",
        ]
    )


def predictions(found: Sequence[Prediction], cases: Sequence[Case]) -> str:
    """One row a prediction: peak, its largest parts, and the cards that hold it."""
    config = cases[0].config
    names = ("weights", "master", "gradients", "state", "activations", "loss", "peak")
    width = max(len(chosen.name) for chosen in cases)
    head = f"{'GB':<{width}}" + "".join(f"{name:>12}" for name in names)
    lines = [f"does it fit? (GB, with {config.reserve:g} of a card kept free)"]
    lines.append(head + "   " + "".join(f"{card:>5g}" for card in config.cards))
    for one, chosen in zip(found, cases, strict=True):
        sizes = columns(one)
        row = f"{chosen.name:<{width}}" + "".join(f"{sizes[name] / GB:>12.3f}" for name in names)
        answers = ("yes" if fits(one.phases.peak, card, config.reserve) else "no" for card in config.cards)
        lines.append(row + "   " + "".join(f"{answer:>5}" for answer in answers))
    return "\n".join([*lines, ""])


TIMES = ("forward", "backward", "update", "step")


def measurement(record: Record) -> str:
    """One record in full: a row for each visit, the mean, and the bytes by category beside the predicted ones."""
    if record.error:
        return f"{record.name}: FAILED, {record.error}\n"
    found = record.measurements
    tokens = record.config["tokens"]
    lines = [
        f"{record.name}: {found['weights_count'] / 1e9:.3f} billion weights, {tokens} tokens a step on "
        f"{record.provenance['device']}; products of the model alone run at {found['rate'] / 1e12:.0f} TFLOP/s",
        f"{'visit':>6}"
        + "".join(f"{name + ' s':>12}" for name in TIMES)
        + f"{'tokens/s':>12}{'of rate':>9}{'peak GB':>9}",
    ]
    for visit in found["visits"]:
        seconds = visit["seconds"]
        lines.append(
            f"{visit['index']:>6}"
            + "".join(f"{seconds[name]:>12.4f}" for name in TIMES)
            + f"{tokens / seconds['step']:>12.0f}{visit['share']:>9.1%}{visit['peak'] / GB:>9.3f}"
        )
    lines.append(
        f"{'mean':>6}"
        + "".join(f"{found['seconds'][name]:>12.4f}" for name in TIMES)
        + f"{found['tokens_per_second']:>12.0f}{found['share']:>9.1%}{found['peak'] / GB:>9.3f}"
    )
    largest = max(found["visits"], key=lambda visit: visit["peak"])
    held = largest["held"]
    measured = {name: held[name] for name in ("weights", "master", "gradients", "state")}
    measured |= {"activations": largest["activations"], "loss": largest["loss"], "other": largest["other"]}
    measured |= {"peak": found["peak"], "reserved": found["reserved"]}
    lines.append(f"{'GB':<10}" + "".join(f"{name:>12}" for name in measured))
    lines.append(f"{'measured':<10}" + "".join(f"{size / GB:>12.3f}" for size in measured.values()))
    if predicted := found["predicted"]:
        sizes = {**predicted["held"], "activations": predicted["activations"], "loss": predicted["loss"]}
        sizes |= {"other": predicted["scratch"], "peak": max(predicted["phases"].values())}
        cells = (f"{sizes[name] / GB:>12.3f}" if name in sizes else f"{'':>12}" for name in measured)
        lines.append(f"{'predicted':<10}" + "".join(cells))
    return "\n".join([*lines, ""])


def comparison(records: Sequence[Record]) -> str:
    """One row a record."""
    width = max(len(record.name) for record in records)
    lines = [f"{'run':<{width}}{'tokens/s':>10}{'step s':>9}{'of rate':>9}{'peak GB':>9}{'reserved':>9}"]
    for record in records:
        found = record.measurements
        if record.error:
            lines.append(f"{record.name:<{width}}  {record.error}")
            continue
        lines.append(
            f"{record.name:<{width}}{found['tokens_per_second']:>10.0f}{found['seconds']['step']:>9.4f}"
            f"{found['share']:>9.1%}{found['peak'] / GB:>9.3f}{found['reserved'] / GB:>9.3f}"
        )
    return "\n".join([*lines, ""])
