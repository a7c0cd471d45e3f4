"""What arXiv 2404.02827 (v3) claims about its method, each with the comparison that tests it here.

A contrast gives cells of a study weights that sum to 0: {"badam": 1, "lora": -1} is BAdam minus LoRA.
`paper.judge.verdicts` evaluates it and says by which rule it is judged.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from paper.read.studies import HEADLINE_8B
from paper.read.studies import REGIME as OVER_EPOCHS

SUPERIOR, NOT_INFERIOR, EQUIVALENT, MEASURED = "superior", "not inferior", "equivalent", "measured"
RULES = (SUPERIOR, NOT_INFERIOR, EQUIVALENT, MEASURED)


@dataclass(frozen=True)
class Claim:
    """One claim.

    Attributes:
        said: in few words, for print.
        place: where the paper says so.
        rule: one of `RULES`.
        measure: what is compared, a key of `paper.judge.verdicts.MEASURES`.
        studies: where the runs are; the first of them that has any is used.
        longer: studies of the same comparison with more training, each of which is judged beside it.
        axis: what a cell of the study is: "method", "order" or "inner_steps".
        contrasts: the comparisons, each must hold. The first negative cell is the one that sets the margin.
        bound: of a measured ratio, what it may not exceed.
    """

    said: str
    place: str
    rule: str
    measure: str
    studies: tuple[str, ...]
    contrasts: tuple[Mapping[str, int], ...]
    axis: str = "method"
    bound: float = 1.0
    longer: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise ValueError(f"rule={self.rule!r} is not one of {', '.join(RULES)}")
        if not self.contrasts or any(sum(contrast.values()) for contrast in self.contrasts):
            raise ValueError(f"contrasts={self.contrasts} is not possible: the weights of each must sum to 0")


def _against(reference: str, *cells: str) -> tuple[Mapping[str, int], ...]:
    return tuple({cell: 1, reference: -1} for cell in cells)


HEADLINE, COST = ("headline", "methods"), ("cost",)
EQUAL_TIME, REGIME = "equal_time", "regime"
"""LoRA's time instead of its steps; and whole epochs, as in the method's paper, which are the studies together."""
TOLERANCE = 1.1
"""Times the ratio that the paper reports: as far as ours may be off where it claims a ratio."""
RECOMMENDED = "recommended"
"""The cell of the study of K with the K that the paper recommends, see `paper.read.studies.is_recommended`."""
SOURCES = {"cost": ("profile", "cost")}
STUDIES = {
    **{
        name: ("train", name)
        for name in (*HEADLINE, EQUAL_TIME, *OVER_EPOCHS, *HEADLINE_8B, "rank", "order", "inner_steps")
    },
    "downstream": ("compare", "downstream"),
}
"""Where the claims look: SOURCES are needed, STUDIES may be missing."""

CLAIMS = (
    Claim("needs less memory than Adam", "Table 2", MEASURED, "peak", COST, _against("adamw", "badam")),
    Claim(
        said="needs about LoRA's memory",
        place="Table 2",
        rule=MEASURED,
        measure="peak",
        studies=COST,
        contrasts=_against("lora", "badam"),
        bound=TOLERANCE * 23.5 / 22.3,  # GB, with LoRA of rank 8
    ),
    Claim("trains Llama 3-8B on a card of 24 GB", "Section 3.1", MEASURED, "card", COST, _against("card", "badam")),
    Claim(
        said="nearly half of LoRA's time for backward",
        place="Table 3",
        rule=MEASURED,
        measure="backward",
        studies=COST,
        contrasts=_against("lora", "badam"),
        bound=TOLERANCE * 1.74 / 3.20,  # hours an epoch
    ),
    Claim("takes less time than LoRA", "Table 3", MEASURED, "step", COST, _against("lora", "badam")),
    Claim(
        said="lower training loss than LoRA",
        place="Section 3.2",
        rule=SUPERIOR,
        measure="training loss",
        studies=HEADLINE,
        contrasts=_against("lora", "badam"),
        longer=(REGIME, *HEADLINE_8B),
    ),
    Claim(
        said="better than LoRA: final loss",
        place="Section 3.3",
        rule=SUPERIOR,
        measure="final loss",
        studies=HEADLINE,
        contrasts=_against("lora", "badam"),
        longer=(EQUAL_TIME, REGIME, *HEADLINE_8B),
    ),
    Claim(
        said="on par with Adam or better: final loss",
        place="Section 3.3",
        rule=NOT_INFERIOR,
        measure="final loss",
        studies=HEADLINE,
        contrasts=_against("adamw", "badam"),
        longer=(EQUAL_TIME, REGIME),
    ),
    Claim(
        said="better than LoRA downstream",
        place="Tables 5, 6",
        rule=SUPERIOR,
        measure="downstream",
        studies=("downstream",),
        contrasts=_against("lora", "badam"),
    ),
    Claim(
        said="on par with Adam downstream, or better",
        place="Tables 5, 6",
        rule=NOT_INFERIOR,
        measure="downstream",
        studies=("downstream",),
        contrasts=_against("adamw", "badam"),
    ),
    Claim("updates of higher rank than LoRA's", "Section 3.2", SUPERIOR, "rank", ("rank",), _against("lora", "badam")),
    Claim("updates of almost Adam's rank", "Section 3.2", EQUIVALENT, "rank", ("rank",), _against("adamw", "badam")),
    Claim(
        said="the order of the blocks hardly matters",
        place="Appendix C.1",
        rule=EQUIVALENT,
        measure="final loss",
        studies=("order",),
        contrasts=_against("random_reshuffle", "ascending", "descending"),
        axis="order",
    ),
    Claim(
        said="$K$ hardly matters",
        place="Appendix C.1",
        rule=EQUIVALENT,
        measure="final loss",
        studies=("inner_steps",),
        contrasts=_against(RECOMMENDED, "1", "3", "6", "30", "90"),
        axis="inner_steps",
    ),
    Claim(
        said="with SGD's rule BCD converges as full SGD does",
        place="Section 3.4",
        rule=NOT_INFERIOR,
        measure="training loss",
        studies=HEADLINE,
        contrasts=_against("sgd", "bsgd"),
        longer=(REGIME,),
    ),
    Claim(
        said="BCD narrows the gap between SGD's rule and Adam's",
        place="Section 3.4",
        rule=SUPERIOR,
        measure="final loss",
        studies=HEADLINE,
        contrasts=({"bsgd": 1, "badam": -1, "sgd": -1, "adamw": 1},),
        longer=(REGIME,),
    ),
)
