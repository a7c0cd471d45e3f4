"""Entry point: `python -m paper.readme` writes the results into README.md, and paper/headline.png beside them.

Both are made of the committed results alone, so that they are the same in every clone.
"""

import argparse
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from paper.judge import claims, verdicts
from paper.judge.verdicts import Judged
from paper.read import cost, studies
from paper.read.cost import Row as Profile
from paper.read.names import data_named, named
from paper.read.studies import Row
from records import COMMITTED, ROOT, Record, RecordError, load_study

README = ROOT / "README.md"
FIGURE = ROOT / "paper" / "headline.png"
BEGIN, END = "<!-- Results: written by `python -m paper.readme`. -->", "<!-- End of the results. -->"
METHODS = {
    "badam": "BAdam",
    "badam_blocks5": "BAdam, 5 layers a block",
    "badam_all": "BAdam, embedding and norm too",
    "bsgd": "blocks with SGD's rule",
    "lora": "LoRA",
    "adamw": "AdamW",
    "sgd": "SGD",
}
"""Methods of the headline, in the order of the table."""
OURS = "badam"
TOKENS = 8192
"""Of a step of Llama 3-8B."""
FAMILIES = ("badam", "lora", "lisa", "galore", "lomo", "adalomo", "adamw")
"""Families of the study of cost, in the order of the table; as documented, BAdam is the package of its authors."""
FASTER = {"fused": "BAdam, fused kernels", "fused_host_card24": "BAdam, fused kernels, in 24 GB"}
"""Other versions of ours."""
WIDTH = 119


def committed(kind: str, study: str) -> list[Record]:
    """The finished records of a committed study.

    Raises:
        RecordError: when there are none.
    """
    records = load_study(study, kind=kind, folder=COMMITTED)
    if not records:
        raise RecordError(f"{COMMITTED / study}.jsonl has no finished {kind} runs, which README.md shows")
    return records


def text() -> str:
    """The part of README.md between the markers."""
    headline, equal_time = (studies.rows(committed("train", study)) for study in ("headline", "equal_time"))
    measured = committed("profile", "cost")
    studied = {name: load_study(study, kind=kind, folder=COMMITTED) for name, (kind, study) in claims.STUDIES.items()}
    judged = verdicts.judge(studied | {name: committed(*place) for name, place in claims.SOURCES.items()})
    picture = f"![Loss against memory at 135M parameters, speed against memory at 8B]({FIGURE.relative_to(ROOT)})"
    parts = [
        "## Results",
        picture,
        *_losses(headline, equal_time, committed("profile", "steps_alone")),
        _verdict(judged),
        *_speeds(cost.rows(measured), cost.card_name(measured)),
        _claims(judged),
    ]
    return "\n".join([BEGIN, "\n\n".join(parts), END])


def _losses(headline: Sequence[Row], equal_time: Sequence[Row], alone: Sequence[Record]) -> Iterator[str]:
    """A line for each method: loss at equal tokens and at equal time on each data set, memory, seconds of a step."""
    cells, timed = studies.by_data(headline), studies.by_data(equal_time)
    first, sets = headline[0], list(cells)
    seeds = max(len(runs) for methods in cells.values() for runs in methods.values())
    steps = first.config["steps"]
    yield _wrapped(
        f"**SmolLM2-135M finetuned on {' and '.join(map(data_named, sets))}**: {steps} steps of "
        f"{first.config['batch_size']} examples, a tuned learning rate for each method and data set. Loss on the "
        f"{studies.part([*headline, *equal_time])} part in nats a token, mean of {seeds} seeds ± 95 % interval. "
        "*In LoRA's time*: as many steps as fit into "
        f"the time of LoRA's {steps}. Memory and the time of a step alone on the GPU are those of "
        f"{data_named(sets[0])}."
    )
    heads = [head for data in sets for head in (f"{data_named(data)}: loss", "in LoRA's time")]
    table = [["method", *heads, "gradients and state (MB)", "peak memory (GB)", "step (ms)"]]
    memory = cells[sets[0]]
    seconds = studies.seconds_alone(alone, memory)
    for method, words in METHODS.items():
        runs, peak = memory[method], studies.peak(memory[method])
        losses = [_mean(studies_of[method]) for data in sets for studies_of in (cells[data], timed[data])]
        held = f"{max(row.held for row in runs) / 1e6:,.0f}"
        gigabytes = f"{peak / 1e9:.1f}" if peak is not None else "--"
        table.append([words, *losses, held, gigabytes, f"{1e3 * seconds[method]:.0f}" if method in seconds else "--"])
    yield _table(table)


def _verdict(judged: Sequence[Judged]) -> str:
    """What the records say of the claims about the loss of two methods, for every length of training."""
    regimes: dict[str, list[str]] = {}
    for each in judged:
        (contrast, *_) = each.claim.contrasts
        if each.claim.measure != "final loss" or each.claim.axis != "method" or len(contrast) != 2:
            continue
        ours, theirs = sorted(contrast, key=lambda cell: -contrast[cell])
        differences = " and ".join(
            f"{d.effect:+.3f} [{d.low:+.3f}, {d.high:+.3f}] on {d.setting.data if d.setting else ''}"
            for d in each.findings
        )
        regimes.setdefault(each.regime, []).append(
            f"{named(ours)}'s loss minus {named(theirs)}'s is {differences}: "
            f'"{each.claim.said.partition(":")[0]}" is {each.verdict}.'
        )
    longer = any(each.study == claims.REGIME for each in judged)
    sentences = [f"*At {regime}*: {' '.join(found)}" for regime, found in regimes.items()]
    missing = "Larger models were" if longer else "Larger models and longer training were"
    return _wrapped(f"**Verdicts for this model.** {' '.join(sentences)} {missing} not measured.")


def _speeds(profiles: Sequence[Profile], card: str) -> Iterator[str]:
    """A line for each method: speed and memory as documented and with our options."""
    yield _wrapped(
        f"**Llama 3-8B on one {card}**, {TOKENS:,} tokens a step in bfloat16, as each method's documentation says "
        "and with `bcd.execution`:"
    )
    table = [["method", "documented: tokens/s", "peak memory (GB)", "`bcd.execution`: tokens/s", "peak memory (GB)"]]
    for family in FAMILIES:
        documented = cost.one(profiles, "reference" if family == OURS else family, "documented", TOKENS)
        ours = cost.one(profiles, family, "keep" if family == OURS else "options", TOKENS)
        star = "\\*" if documented and documented.layers else ""
        table.append([METHODS.get(family, cost.FAMILIES[family]) + star, *_speed(documented), *_speed(ours)])
    for version, words in FASTER.items():
        table.append([words, *_speed(None), *_speed(cost.one(profiles, OURS, version, TOKENS))])
    yield _table(table)
    yield _wrapped(
        "\\* followed from runs of 8 and 16 layers. LoRA's adapters are multiplied in TensorFloat-32; torch's default "
        "is slower."
    )


def _speed(profile: Profile | None) -> tuple[str, str]:
    return ("--", "--") if profile is None else (f"{profile.tokens_per_second:,.0f}", f"{profile.peak / 1e9:.1f}")


def _claims(judged: Sequence[Judged]) -> str:
    """How many claims of the method's paper the committed results support."""
    counts = Counter(each.verdict for each in verdicts.first(judged))
    few = counts[verdicts.TOO_FEW_SEEDS] + counts[verdicts.TOO_FEW_ITEMS]
    return _wrapped(
        f"Of {counts.total()} claims of the method's paper, {counts[verdicts.SUPPORTED]} are supported by these runs, "
        f"{counts[verdicts.NOT_SUPPORTED]} are not, and {few} have too few seeds or items; at the paper's scale and "
        "length none about quality was tested. The PDF has each with its numbers, its rule and its regime."
    )


def _mean(runs: Sequence[Row]) -> str:
    estimate = studies.loss(runs)
    return f"{estimate.mean:.3f} ± {estimate.high - estimate.mean:.3f}"


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *body = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([head, "|---|" + "---:|" * (len(rows[0]) - 1), *body])


def _wrapped(paragraph: str) -> str:
    return textwrap.fill(paragraph, WIDTH, break_long_words=False, break_on_hyphens=False)


def replaced(readme: str) -> str:
    """README.md with the results of now.

    Raises:
        RecordError: when it lacks a marker.
    """
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise RecordError(f"README.md needs the lines {BEGIN} and {END}, between which the results stand")
    return before + text() + after


def write(readme: Path = README, figure: Path = FIGURE) -> None:
    """Write both."""
    from paper.figures import overview  # matplotlib is slow to import

    readme.write_text(replaced(readme.read_text(encoding="utf-8")), encoding="utf-8")
    rows = studies.rows(committed("train", "headline"))
    overview.draw(rows, cost.rows(committed("profile", "cost"))).savefig(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.parse_args()
    try:
        write()
    except (RecordError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    print(f"wrote {README} and {FIGURE}")


if __name__ == "__main__":
    main()
