"""The numbers of the section on the published theorem, as macro name -> text."""

from collections.abc import Iterator, Sequence

from paper.read.names import source
from records import Record, RecordError

THEOREM, COROLLARY = "badam_d4_printed", "badam_d5_printed"


def numbers(theory: Sequence[Record]) -> dict[str, str]:
    """Violations of the printed statements on the counter-example, and how they do on random instances.

    Raises:
        RecordError: when a record is missing, or when they say something else than the text.
    """
    recorded = {record.name: record for record in theory}
    names = [f"{name}-{problem}-quick" for problem in ("bilinear", "quadratic") for name in (THEOREM, COROLLARY)]
    if missing := [name for name in names if name not in recorded]:
        raise RecordError(f"no finished record of {', '.join(missing)}, which the text quotes; run `make theory`")
    example, corollary, *random = (recorded[name] for name in names)
    violated = {K: ratio for K, ratio in _quotients(example) if ratio > 1}
    worst = max(ratio for K, ratio in _quotients(corollary) if K == 1)
    lines = [line for record in random for line in record.measurements["lines"].values()]
    if not violated or worst <= 1 or any(line["violations"] for line in lines):
        raise RecordError("the text says that the printed statements fail on the counter-example alone; they do not")
    return {
        "TheoryAuditSource": source([example, corollary, *random]),
        "TheoryAuditSteps": listed([str(K) for K in sorted(violated)]),
        "TheoryAuditRatios": listed([f"{violated[K]:.2f}" for K in sorted(violated)]),
        "TheoryAuditCorollaryRatio": f"{worst:.1f}",
        "TheoryAuditRandom": str(sum(line["checks"] for line in lines)),
        "TheoryAuditRandomResolved": str(sum(line["resolved"] for line in lines)),
        "TheoryAuditRandomRatio": f"{max(line['largest_ratio'] for line in lines):.3f}",
    }


def listed(items: Sequence[str]) -> str:
    """As in 1, 2 and 3."""
    return " and ".join(part for part in (", ".join(items[:-1]), items[-1]) if part)


def _quotients(record: Record) -> Iterator[tuple[int, float]]:
    """K and claimed/actual decrease of every instance."""
    columns = record.measurements["instances"]
    for K, claimed, actual in zip(columns["inner_steps"], columns["measured"], columns["bound"], strict=True):
        yield K, claimed / actual
