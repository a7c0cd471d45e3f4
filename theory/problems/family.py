"""The sweep over a problem that a yaml in conf/problem describes."""

import dataclasses
import itertools
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from theory.problems.problem import Problem
from theory.problems.validation import positive_integer


@dataclass(frozen=True, kw_only=True)
class Family:
    """Every combination of the values of the list fields, each with the seeds 0, 1, ...

    A subclass sets `problem` and adds a field for each of its arguments: a `Sequence` is an axis of the sweep, any
    other field is the same in all instances.

    Attributes:
        seeds: number of seeds.
        example: arguments of the problem that `showcase` returns.

    Raises:
        ValueError: when a list is empty or a value is outside its range.
    """

    problem: ClassVar[Callable[..., Problem]]
    seeds: int
    example: Mapping[str, Any]

    def __post_init__(self) -> None:
        for name in self._axes():
            if isinstance(getattr(self, name), int | float | str) or not len(getattr(self, name)):
                raise ValueError(f"{name}={getattr(self, name)!r} is not possible: it must be a list of values")
        positive_integer("seeds", self.seeds)
        # The sweep and the showcase run late; a mistake must be found before anything was computed.
        for arguments in self.arguments():
            self.problem(**arguments)
        self.showcase()

    def _axes(self) -> list[str]:
        return [item.name for item in dataclasses.fields(self) if typing.get_origin(item.type) is Sequence]

    def arguments(self) -> Iterator[dict[str, Any]]:
        """Keyword arguments of `problem` except the seed, one mapping for each combination."""
        axes = self._axes()
        names = [item.name for item in dataclasses.fields(self) if item.name not in ("seeds", "example")]
        fixed = {name: getattr(self, name) for name in names if name not in axes}
        for values in itertools.product(*(getattr(self, name) for name in axes)):
            yield {**dict(zip(axes, values, strict=True)), **fixed}

    def instances(self) -> Iterator[Any]:
        for arguments, seed in itertools.product(self.arguments(), range(self.seeds)):
            yield self.problem(**arguments, seed=seed)

    def showcase(self) -> Any:
        try:
            return self.problem(**self.example)
        except TypeError as error:
            raise ValueError(f"example={dict(self.example)} is not possible: {error}") from error


@dataclass(frozen=True, kw_only=True)
class BlockFamily(Family):
    """Family of a problem whose first argument is `sizes`, the sizes of its blocks; without duplicates.

    Attributes:
        num_blocks: values of D.
        block_sizes: patterns of block sizes, each repeated up to D blocks: [1, 3] at D = 4 gives sizes 1, 3, 1, 3.
    """

    num_blocks: Sequence[int]
    block_sizes: Sequence[Sequence[int]]

    def __post_init__(self) -> None:
        for name in ("num_blocks", "block_sizes"):
            if isinstance(getattr(self, name), int | float | str):
                raise ValueError(f"{name}={getattr(self, name)!r} is not possible: it must be a list of values")
        for count in self.num_blocks:
            positive_integer("num_blocks", count)
        for sizes in self.block_sizes:
            if isinstance(sizes, int | float | str):
                raise ValueError(f"block_sizes={self.block_sizes!r} is not possible: it must be a list of lists")
            if not sizes:
                raise ValueError(f"block_sizes={self.block_sizes!r} is not possible: a pattern is empty")
        super().__post_init__()

    def arguments(self) -> Iterator[dict[str, Any]]:
        seen: list[dict[str, Any]] = []
        for row in super().arguments():
            count, sizes = row.pop("num_blocks"), row.pop("block_sizes")
            row = {"sizes": list(itertools.islice(itertools.cycle(sizes), count)), **row}
            if row not in seen:
                seen.append(row)
                yield row
