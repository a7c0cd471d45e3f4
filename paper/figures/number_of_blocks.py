"""The effect of the number of blocks D: Lemma T and one block epoch, theorems beside exact worst cases."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper.figures import style
from records import Record

SOURCES = {"worst_case": ("verify", "worst_case"), "curves": ("verify", "curves")}


def draw(worst_case: Sequence[Record], curves: Sequence[Record]) -> Figure:
    drawn, (lemma, epoch) = style.figure(2, height=2.5)
    (record,), (worst,) = curves, worst_case
    theorems, measured = record.measurements["blocks"], worst.measurements
    D = theorems["blocks"]

    lemma.semilogx(D, theorems["root"], color="#999999", linestyle=":", label=r"$\sqrt{D-1}$")
    lemma.semilogx(D, theorems["tau"], color="#D55E00", linestyle="--", label=r"$\tau(D)$, Lemma T")
    exact = measured["triangular"]
    lemma.semilogx(exact["blocks"], exact["worst_case"], "o-", color="#0072B2", markersize=3.5, label="exact (SDP)")
    lemma.set(xlabel="number of blocks $D$", ylabel=r"$\Lambda/L$")

    epoch.semilogx(D, theorems["constant"], color="#D55E00", linestyle="--", label=r"$C_{rec}$, Theorem A1")
    exact = measured["epochs"]
    epoch.semilogx(exact["blocks"], exact["worst_case"], "o-", color="#0072B2", markersize=3.5, label="$C^*$ (SDP)")
    epoch.set(xlabel="number of blocks $D$", ylabel="$C/L$")
    for axes in (lemma, epoch):
        _blocks(axes, D[-1])
        axes.legend(loc="upper left")
    return drawn


def _blocks(axes: Axes, largest: int) -> None:
    ticks = [2**n for n in range(largest.bit_length())]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
