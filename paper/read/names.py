"""Names of methods and data sets in print, and the source sentence of captions."""

from collections.abc import Sequence
from typing import Any

from records import Record, RecordError

LABELS = {
    "badam": "BAdam",
    "badam_exact": "BAdam, exact master",
    "badam_all": "BAdam, all trained",
    "bsgd": "BCD + SGD",
    "bcd_momentum": "BCD + momentum",
    "bread": "BREAD",
    "lisa": "LISA",
    "hift": "HiFT",
    "adamw": "AdamW",
    "sgd": "SGD",
    "sgd_momentum": "SGD + momentum",
    "lora": "LoRA",
    "galore": "GaLore",
    "apollo": "APOLLO",
    "lomo": "LOMO",
    "adalomo": "AdaLomo",
    "schedule_free": "schedule-free AdamW",
    "soap": "SOAP",
    "muon": "Muon + AdamW",
    "badam_blocks2": "2 layers a block",
    "badam_blocks5": "5 layers a block",
    "badam_blocks10": "10 layers a block",
    "badam_blocks5_slow": "5 layers, longer visits",
    "badam_blocks5_embedding": "5 layers + embedding",
    "badam_window2": "window of 2 layers",
    "badam_window5": "window of 5 layers",
    "badam_kept": "state kept",
    "badam_kept_tuned": "state kept, own rate",
    "badam_embedding": "+ embedding",
    "bread_low_rank": "BREAD, low rank",
    "bread_blocks5": "BREAD, 5 layers",
    "badam_average_steps": "averaged over steps",
    "badam_average_visits": "averaged over visits",
    "badam_cost_aware": "cost-aware order",
    "badam_bf16": "bfloat16 weights",
    "badam_bf16_exact": "bfloat16, exact master",
    "badam_bf16_remainder": "bfloat16, remainder kept",
    "badam_k50": "BAdam, $K=50$",
    "bread_sign": "BREAD, sign",
    "above_sign": "sign above",
    "above_sign_twin": "sign above, no Adam",
    "above_sign_equal": "sign above, one rate",
    "above_sign_balanced": "sign above, balanced",
    "above_sign_twin_exact": "sign above, no Adam, exact master",
    "above_sign_blocks2": "2 layers, sign above",
    "above_sign_blocks3": "3 layers, sign above",
    "above_sign_blocks5": "5 layers, sign above",
    "above_sign_blocks5_twin": "5 layers, sign above, no Adam",
    "above_sign_blocks5_equal": "5 layers, sign above, one rate",
    "above_sign_blocks5_balanced": "5 layers, sign above, balanced",
    "above_sign_blocks10": "10 layers, sign above",
    "above_row_normalised": "row-normalised above",
    "above_row_normalised_twin": "row-normalised above, no Adam",
    "above_factored": "factored above",
    "above_factored_blocks5": "5 layers, factored above",
    "sign": "sign on all layers",
    "sign_exact": "sign on all layers, exact master",
    "row_normalised": "row-normalised on all",
    "factored": "factored on all",
    "factored_exact": "factored on all, exact master",
    "rows16": "16 parts of rows",
    "rows30": "30 parts of rows",
}


MODELS = {"smollm2_135m": "SmolLM2-135M", "llama3_8b": "Llama 3-8B"}
DATA = {"gsm8k": "GSM8K", "math": "MATH", "alpaca": "Alpaca-GPT4", "alpaca_cleaned": "Alpaca"}


def named(method: str) -> str:
    """The name of a method in print; a method without one keeps its configuration name."""
    return LABELS.get(method, method.replace("_", " "))


def data_named(data: str) -> str:
    """The name of a data set in print."""
    return DATA.get(data, data.replace("_", " "))


def model_named(model: str) -> str:
    """The name of a model in print."""
    return MODELS.get(model, model.replace("_", " "))


def about(record: Record, label: str) -> Any:
    """A label that the run's configuration gives it for the paper, as its family; names of runs are not parsed.

    Raises:
        RecordError: naming file, run and field, when it has no such label.
    """
    labels = record.config.get("about") or {}
    if labels.get(label) is None:
        raise RecordError(
            f"{record.path or record.study}: {record.name} has no config.about.{label}, which the paper groups by; "
            f"give about.{label}=... to the command that makes it"
        )
    return labels[label]


def sources(studies: Sequence[Sequence[Record]]) -> str:
    """As `source`, of several studies, without machines and dates."""
    parts = [f"{records[0].study.replace('_', ' ')} ({len(records)} runs)" for records in studies if records]
    commits = sorted({record.provenance["commit"][:10] for records in studies for record in records})
    return f"studies {', '.join(parts)}; commit {', '.join(commits)}"


def source(records: Sequence[Record]) -> str:
    """The sentence of every caption that says which runs it shows: study, machine, date and commit."""
    commits = sorted({r.provenance["commit"][:10] + ("+changes" if r.provenance["dirty"] else "") for r in records})
    devices = sorted({f"{r.provenance['device']} {r.provenance['device_type'].upper()}" for r in records})
    days = sorted({r.provenance["date"][:10] for r in records})
    runs = f"{len(records)} runs" if len(records) > 1 else "one run"
    study = records[0].study.replace("_", " ")
    return f"study {study}, {runs} on {', '.join(devices)}, {', '.join(days)}, commit {', '.join(commits)}"


def source_of_all(records: Sequence[Record]) -> str:
    """As `source`, of the finished runs, and how many failed besides."""
    failed = sum(record.status == "failed" for record in records)
    return source(finished(records)) + (f"; {failed} more failed" if failed else "")


def finished(records: Sequence[Record]) -> list[Record]:
    """The finished ones."""
    return [record for record in records if record.status == "finished"]
