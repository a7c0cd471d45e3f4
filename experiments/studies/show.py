"""Studies and records as text."""

from collections.abc import Mapping, Sequence

from experiments.studies import estimate, forecast
from experiments.training.run import Run
from records import Record


def table(listed: Sequence[Run], peaks: Mapping[str, int] | None = None) -> str:
    """The study as text: run, state, seconds (measured or estimated), and memory where it was predicted.

    Args:
        listed: the runs.
        peaks: what `forecast.peaks` gives.
    """
    width, peaks = max(len(run.name) for run in listed), peaks or {}
    head = f"{'run':{width}}  {'state':11}  {'time':>14}"
    rows = [head + (f"  {'peak':>8}  card" if peaks else "")]
    for run in listed:
        about = "" if run.state == "finished" else "about "
        row = f"{run.name:{width}}  {run.state:11}  {about + left(estimate.seconds(run)):>14}"
        if (peak := peaks.get(run.plan.form)) is not None:
            card = f"{run.plan.config.how.card:g} GB {'holds it' if forecast.fits(run, peak) else 'is too small'}"
            row += f"  {peak / forecast.GB:5.1f} GB  {card}"
        rows.append(row)
    todo = [run for run in listed if run.state != "finished"]
    seconds = sum(map(estimate.estimated, todo))
    rows.append(f"left: {len(todo)} runs, about {between(*(share * seconds for share in estimate.spread(todo)))}")
    return "\n".join(rows)


def assumptions(listed: Sequence[Run], absent: Sequence[str]) -> str:
    """What a listing assumes, a line each: what is not on this machine, tokens of an example, the rate of the time."""
    lines = [f"assumed: {line}; its size is that of the configuration" for line in dict.fromkeys(absent)]
    without = [run.plan for run in listed if not run.plan.has_data]
    for plan in {plan.data_key: plan for plan in without}.values():
        given = plan.config.how.get("assumed_tokens")
        why = "how.assumed_tokens" if given else "data.max_tokens, the most; how.assumed_tokens=N says less"
        tokens = plan.tokens_per_step // plan.config.batch_size
        lines.append(f"assumed: {tokens} tokens an example ({why})")
    rates = {run.plan.config.how.get("tflops") for run in listed}
    if given := sorted(rate for rate in rates if rate is not None):
        lines.append(f"assumed: {', '.join(f'{rate:g}' for rate in given)} TFLOP/s sustained (how.tflops)")
    elif lines:
        lines.append("times are for this machine; how.tflops=400 gives those at that sustained rate, in TFLOP/s")
    return "\n".join(lines)


def left(seconds: float) -> str:
    """A time for readers.

    >>> left(59), left(3000), left(30000)
    ('59 s', '50 min', '8.3 h')
    """
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )


def between(least: float, most: float) -> str:
    """A range of times for readers, one where both are the same in print.

    >>> between(3000, 7300), between(3000, 3001)
    ('50 min to 2.0 h', '50 min')
    """
    return left(least) if left(least) == left(most) else f"{left(least)} to {left(most)}"


def summary(record: Record) -> str:
    """One line of a record: what it was and what came out."""
    if record.error:
        return f"{record.name}: FAILED, {record.error}"
    if record.status == "interrupted":
        return f"{record.name}: interrupted after {len(record.measurements.get('steps', {}).get('lr', []))} steps"
    before, after = record.measurements["before"], record.measurements["after"]
    line = f"{record.name}: held-out loss {before['heldout_loss']:.4f} -> {after['heldout_loss']:.4f}"
    if "exact_match" in after:
        line += f", exact match {before['exact_match']:.3f} -> {after['exact_match']:.3f}"
    return f"{line} on {after['items']} items"
