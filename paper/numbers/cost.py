"""The numbers of the section on cost, as macro name -> text."""

from collections.abc import Sequence

from paper.read.cost import Row, card_name, one, recomputed, reference, rows, times
from paper.read.formats import thousands
from paper.read.names import source
from records import Record


def numbers(cost: Sequence[Record], predicted: Sequence[Record]) -> dict[str, str]:
    """The macros of the text: ratios of runs on cards of one model, and how far the prediction is off.

    Which runs are of one session is said in the text.
    """
    everything = rows(cost, predicted)
    macros = {"CostSource": source(cost)}
    keep, fused, float8 = (one(everything, "badam", version, 8192) for version in ("keep", "fused", "float8"))
    small = {products: recomputed(everything, 2048, products) for products in ("", "fused")}
    card = {
        "": one(everything, "badam", "host_card24", 2048),
        "fused": one(everything, "badam", "fused_host_card24", 2048),
        "large": one(everything, "badam", "fused_host_card24", 8192),
    }
    theirs = {tokens: reference(everything, tokens) for tokens in (2048, 8192)}
    lora, lora_fast = (
        {version: one(everything, "lora", version, 8192, tf32=tf32) for version in ("documented", "options")}
        for tf32 in (False, True)
    )
    ratios = {
        "CostOverReference": (keep, theirs[8192]),
        "CostOverLora": (keep, lora["documented"]),
        "CostOverLoraFast": (keep, lora_fast["documented"]),
        "CostOverReferenceOptions": (keep, one(everything, "reference", "options", 8192)),
        "CostOverLoraOptions": (keep, lora["options"]),
        "CostOverLoraOptionsFast": (keep, lora_fast["options"]),
        "CostAdamOverLora": (one(everything, "adamw", "options", 8192), lora_fast["options"]),
        "CostFusedOverKeep": (fused, keep),
        "CostFusedOverReference": (fused, theirs[8192]),
        "CostFusedOverLora": (fused, lora["documented"]),
        "CostSmallOverReference": (small[""], theirs[2048]),
        "CostSmallFusedOverReference": (small["fused"], theirs[2048]),
        "CostCardOverReferenceSmall": (card[""], theirs[2048]),
        "CostCardFusedOverReferenceSmall": (card["fused"], theirs[2048]),
        "CostCardOverReference": (card["large"], theirs[8192]),
        "CostFloatOverReference": (float8, theirs[8192]),
        "CostFloatOverLora": (float8, lora["documented"]),
        "CostFloatOverKeep": (float8, keep),
        "CostFloatSmallOverSmall": (recomputed(everything, 2048, "float8"), small[""]),
    }
    macros["CostMostOverReference"] = _most(theirs[8192])
    macros |= {name: times(*pair) for name, pair in ratios.items()}
    for name, row in {"CostKeep": keep, "CostFused": fused, "CostSmall": small[""], "CostFloat": float8}.items():
        macros[f"{name}Share"] = _share(row)
        macros[f"{name}Peak"] = f"{row.peak / 1e9:.1f}" if row else "--"
        macros[f"{name}Tokens"] = thousands(round(row.tokens_per_second)) if row else "--"
    usual = one(everything, "badam", "keep", 2048)
    saved = usual.held["weights"] - small[""].held["weights"] if usual and small[""] else None
    macros["CostHostSaved"] = f"{saved / 1e9:.2f}" if saved else "--"
    highest = max(keep.visits) if keep else None
    macros["CostTopShare"] = f"{100 * highest[2] / highest[1]:.0f}" if highest else "--"
    errors = [abs(row.predicted["peak"] / row.peak - 1) for row in everything if row.predicted and not row.layers]
    macros["CostRuns"] = str(len(cost))
    macros["CostPredictionError"] = f"{100 * max(errors):.1f}" if errors else "--"
    rates = [record.measurements["rate"] / 1e12 for record in cost]
    macros["CostRate"] = f"{min(rates):.0f}" if min(rates) == max(rates) else f"{min(rates):.0f} to {max(rates):.0f}"
    return macros


def other_card(other: Sequence[Record]) -> dict[str, str]:
    """The macros of the text on the runs on another card, all of one session."""
    everything = rows(other)
    fused, theirs = one(everything, "badam", "fused", 8192), reference(everything, 8192)
    small, capped = recomputed(everything, 2048, "fused"), one(everything, "badam", "fused_host_card24", 2048)
    return {
        "CostOtherSource": source(other),
        "CostOtherCard": card_name(other),
        "CostOtherFusedOverReference": times(fused, theirs),
        "CostOtherFusedOverLora": times(fused, one(everything, "lora", "documented", 8192, tf32=False)),
        "CostOtherSmallFusedOverReference": times(small, reference(everything, 2048)),
        "CostOtherCappedFusedOverReference": times(capped, reference(everything, 2048)),
        "CostOtherFusedShare": _share(fused),
        "CostOtherReferenceShare": _share(theirs),
        "CostOtherMostOverReference": _most(theirs),
    }


def _share(row: Row | None) -> str:
    return f"{100 * row.share:.0f}" if row else "--"


def _most(reference: Row | None) -> str:
    """How many times as fast as this row a step at the floor rate would be."""
    return f"{1 / reference.share:.2f}" if reference else "--"
