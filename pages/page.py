"""What a page is made of: paragraphs, tables that a reader can sort, and figures."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from paper.read.names import sources
from paper.read.statistics import Estimate
from records import Record

SIGNS = {r"\times": "×", r"\S": "§", r"\,": " ", "{,}": ",", r"\%": "%", "--": "–", "$": ""}
"""What names in print have of LaTeX."""
COMMANDS = {"theory": "make theory", "adversary": "make theory", "quick": "make study", "": "make ablations"}
"""Study -> the command that makes its records; "" is every other."""


@dataclass(frozen=True)
class Cell:
    """A value of a table.

    Attributes:
        text: in print.
        value: by which its column is sorted, a number or a text; None is last in both directions.
        link: page that it leads to, "" for none.
    """

    text: str
    value: float | str | None = None
    link: str = ""


@dataclass(frozen=True)
class Table:
    """A table; every row has a cell for each head.

    Attributes:
        caption: says what it shows.
        heads: names of the columns.
        rows: in the order before the reader sorts.
        source: sentence that says which records it is of.

    Raises:
        ValueError: when a row has another length than the heads.
    """

    caption: str
    heads: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    source: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.heads):
                raise ValueError(f"{self.caption}: a row has {len(row)} cells and the table {len(self.heads)} columns")


@dataclass(frozen=True)
class Picture:
    """A figure with the name of its file, a title for those who do not see it, and a caption."""

    name: str
    title: str
    caption: str
    drawn: Figure


@dataclass(frozen=True)
class Code:
    """A text that keeps its lines, with a heading."""

    title: str
    text: str


@dataclass(frozen=True)
class Missing:
    """What a page lacks records for, and the command that makes them."""

    what: str
    command: str


Part = str | Table | Picture | Code | Missing
"""A text is a paragraph."""


@dataclass(frozen=True)
class Page:
    """A page of the site.

    Attributes:
        path: of its file below the folder of the site.
        title: its heading.
        parts: in order.
        above: (path, title) of the page that it belongs to, None for those that the navigation has.
    """

    path: str
    title: str
    parts: Sequence[Part]
    above: tuple[str, str] | None = None


def missing(what: str, study: str) -> Missing:
    """The part that stands where a study has no records."""
    return Missing(what, COMMANDS.get(study, COMMANDS[""]))


def plain(text: str) -> str:
    """A name in print without LaTeX.

    Raises:
        ValueError: when there is LaTeX in it that `SIGNS` does not have.

    >>> plain(r"BAdam, $K=50$"), plain(r"$2\\times1{,}024$ tokens")
    ('BAdam, K=50', '2×1,024 tokens')
    """
    shown = text
    for sign, character in SIGNS.items():
        shown = shown.replace(sign, character)
    if any(sign in shown for sign in "\\{}"):
        raise ValueError(f"{text!r} has LaTeX that pages cannot show; add it to pages.page.SIGNS")
    return shown


def words(text: str, link: str = "") -> Cell:
    """A cell that is sorted by its text."""
    shown = plain(text)
    return Cell(shown, shown.lower() or None, link)


def number(value: float | None, shape: str = ".3f", scale: float = 1) -> Cell:
    """A cell with a number in a format; a dash where there is none."""
    return Cell("–") if value is None else Cell(format(value * scale, shape), value * scale)


def estimate(value: Estimate) -> Cell:
    """The mean with half of its interval's length, the mean alone of one run."""
    half = f" ± {value.high - value.mean:.3f}" if value.n > 1 else ""
    return Cell(f"{value.mean:.3f}{half}", value.mean)


def interval(mean: float | None, low: float | None, high: float | None) -> Cell:
    """A difference with its 95 % interval; a dash where there is none."""
    if mean is None:
        return Cell("–")
    ends = f" [{low:+.3f}, {high:+.3f}]" if low is not None and high is not None else ""
    return Cell(f"{mean:+.3f}{ends}", mean)


def source(records: Iterable[Sequence[Record]]) -> str:
    """The sentence that says which records a table or figure is of."""
    shown = sources([group for group in records if group])
    return f"Records: {shown}."


def method_link(method: str, known: Mapping[str, object]) -> str:
    """The page of a method, "" where it has no runs."""
    return method_path(method) if method in known else ""


def method_path(method: str) -> str:
    """The file of the page of a method."""
    return f"methods/{method}.html"
