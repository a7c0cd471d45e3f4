"""Figures as SVG whose text is text, that have a title, and that follow the reader's light or dark colours."""

import io
import re
from html import escape

import matplotlib as mpl
from matplotlib.figure import Figure

THEME = (
    "<style>svg{fill:currentColor;color:#1a1a1a;--paper:#fff;--grid:#ddd;--faint:#767676;"
    "--blue:#0072b2;--violet:#332288;--wine:#882255;--green:#117733;--brown:#8c6d1f}"
    "@media(prefers-color-scheme:dark){svg{color:#e4e6e8;--paper:#15181b;--grid:#3a3f44;--faint:#a0a6ac;"
    "--blue:#2b80c4;--violet:#9a8cf0;--wine:#e07aa8;--green:#4fbf75;--brown:#c9a24a}}</style>"
)
COLOURS = {
    "#000000": "currentColor",
    "#ffffff": "var(--paper)",
    "#dddddd": "var(--grid)",
    "#767676": "var(--faint)",
    "#666666": "var(--faint)",
    "#0072b2": "var(--blue)",
    "#332288": "var(--violet)",
    "#882255": "var(--wine)",
    "#117733": "var(--green)",
    "#8c6d1f": "var(--brown)",
}
"""Greys and dark colours of `paper.figures.style` -> what they are in either theme."""


def svg(drawn: Figure, name: str, title: str) -> str:
    """The figure; equal figures are equal texts.

    Args:
        drawn: the figure.
        name: makes the ids of one figure differ from those of another.
        title: what a screen reader says.
    """
    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "font.family": "sans-serif"}):
        drawn.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Title": title})
    text = buffer.getvalue()
    for colour, themed in COLOURS.items():
        text = re.sub(rf'(fill|stroke)(: |="){colour}', rf"\1\2{themed}", text)
    opening = f'role="img" aria-label="{escape(title)}"'
    return re.sub(r"<svg ([^>]*)>", rf"<svg {opening} \1>{THEME}", text, count=1)
