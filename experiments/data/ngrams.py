"""Shared n-grams of training texts and evaluation items: whether an answer could have been learned by heart.

A word is a run of letters with their marks, digits and underscores, in lower case and in composed form (NFC); the
vowel signs of Arabic and Hebrew, which most texts leave out, do not count, nor does the tatweel. An item's n-grams are
those of n consecutive words of its texts; a text of fewer words, but at least `shortest`, is one gram by itself; what
is shorter is not tested. n = 13 and shortest = 8 are customary (arXiv 2005.14165, appendix C).
"""

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import regex

from bcd.checks import require_whole
from experiments.errors import UserError

Gram = tuple[str, ...]
WORD = regex.compile(r"[\w\p{M}\u200c\u200d]+")
SIGNS = regex.compile(r"[\u0591-\u05c7\u0610-\u061a\u0640\u064b-\u065f\u0670\u06d6-\u06ed]")
NEAR = 0.8
"""Share of an item's grams in one training text from which on the text is nearly the item."""


def words(text: str) -> list[str]:
    return WORD.findall(SIGNS.sub("", unicodedata.normalize("NFC", text).lower()))


@dataclass
class Overlap:
    """What one evaluation set has in common with the training texts.

    Attributes:
        items: number of items.
        untested: number of items too short to be tested.
        coverage: item -> largest share of its grams that one training example has.
        example: item -> the training example that has this share.
    """

    items: int
    untested: int
    coverage: dict[int, float] = field(default_factory=dict)
    example: dict[int, int] = field(default_factory=dict)

    @property
    def touched(self) -> int:
        """Items that share at least one gram with some training example."""
        return len(self.coverage)

    @property
    def near(self) -> int:
        """Items of which one training example has at least the share `NEAR`."""
        return sum(share >= NEAR for share in self.coverage.values())


def require_gram_sizes(n: int, shortest: int) -> None:
    """Raise ValueError unless 1 <= shortest <= n, both whole."""
    for name, value in (("n", n), ("shortest", shortest)):
        require_whole(name, value, least=1, why="it must be a whole number of words, at least 1")
    if shortest > n:
        raise UserError(f"shortest={shortest} exceeds n={n}")


class Index:
    """The grams of all items of several evaluation sets.

    Args:
        sets: name -> items, each the texts of one item.
        n: words of a gram.
        shortest: fewest words of a text that is one gram by itself, see the module.

    Raises:
        ValueError: unless 1 <= shortest <= n.
    """

    def __init__(self, sets: dict[str, Sequence[Sequence[str]]], n: int, shortest: int) -> None:
        require_gram_sizes(n, shortest)
        self.n, self.shortest = n, shortest
        self._items: dict[Gram, set[tuple[str, int]]] = defaultdict(set)
        self._sizes: dict[Gram, set[int]] = defaultdict(set)  # first words of a gram -> sizes of grams that begin so
        self._totals: dict[tuple[str, int], int] = {}
        self.overlaps = {name: Overlap(len(items), 0) for name, items in sets.items()}
        for name, items in sets.items():
            for number, texts in enumerate(items):
                grams = {gram for text in texts for gram in self._grams(words(text))}
                self.overlaps[name].untested += not grams
                self._totals[name, number] = len(grams)
                for gram in grams:
                    self._items[gram].add((name, number))
                    self._sizes[gram[:shortest]].add(len(gram))

    def _grams(self, tokens: list[str]) -> Iterator[Gram]:
        size = min(self.n, len(tokens))
        if size >= self.shortest:
            yield from (tuple(tokens[i : i + size]) for i in range(len(tokens) - size + 1))

    def add(self, example: int, texts: Iterable[str]) -> float:
        """Compare one training example with all items.

        Args:
            example: number of the example, which `Overlap.example` names it by.
            texts: its prompt and answer.

        Returns:
            The largest share of an item's grams that the example has, 0 for none.
        """
        grams: set[Gram] = set()
        for text in texts:
            tokens = words(text)
            for i in range(len(tokens) - self.shortest + 1):
                for size in self._sizes.get(tuple(tokens[i : i + self.shortest]), ()):
                    if (gram := tuple(tokens[i : i + size])) in self._items:
                        grams.add(gram)
        shared = Counter(item for gram in grams for item in self._items[gram])
        largest = 0.0
        for (name, number), count in shared.items():
            share, overlap = count / self._totals[name, number], self.overlaps[name]
            largest = max(largest, share)
            if share > overlap.coverage.get(number, 0.0):
                overlap.coverage[number], overlap.example[number] = share, example
        return largest
