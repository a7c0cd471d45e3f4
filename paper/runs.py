"""What producers share about runs: names of methods in print, their order, and the source sentence of captions."""

from collections.abc import Sequence

from records import Record

LABELS = {
    "badam": "BAdam",
    "badam_all": "BAdam, all trained",
    "bsgd": "BCD + SGD",
    "bread": "BREAD",
    "lisa": "LISA",
    "adamw": "AdamW",
    "sgd": "SGD",
    "lora": "LoRA",
}


def method(record: Record) -> str:
    """The method's configuration name."""
    return record.config["choices"]["method"]


def label(record: Record) -> str:
    """The method's name in print; a method without one keeps its configuration name."""
    return LABELS.get(method(record), method(record).replace("_", " "))


def ordered(records: Sequence[Record]) -> list[Record]:
    """Records in the order of LABELS, unknown methods last."""
    places = {name: i for i, name in enumerate(LABELS)}
    return sorted(records, key=lambda record: (places.get(method(record), len(places)), method(record)))


def source(records: Sequence[Record]) -> str:
    """The sentence of every caption that says which runs it shows: study, machine, date and commit."""
    commits = sorted({r.provenance["commit"][:10] + ("+changes" if r.provenance["dirty"] else "") for r in records})
    devices = sorted({f"{r.provenance['device']} {r.provenance['device_type'].upper()}" for r in records})
    days = sorted({r.provenance["date"][:10] for r in records})
    runs = f"{len(records)} runs" if len(records) > 1 else "one run"
    return f"study {records[0].study}, {runs} on {', '.join(devices)}, {', '.join(days)}, commit {', '.join(commits)}"
