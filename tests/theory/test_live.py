"""The live table: states, the time that is left, what fits on the screen, nothing where there is no terminal."""

import io
import re
import sys

import pytest
from rich.console import Console

from theory.live import LiveTable

ROWS = [(bound, problem) for bound in ("a1", "b2") for problem in ("quadratic", "mlp", "huber")]


def made(height: int = 24, terminal: bool = True) -> tuple[LiveTable, io.StringIO, list[float]]:
    """A table of six rows with four tasks each, its output and its clock."""
    out, now = io.StringIO(), [100.0]
    console = Console(file=out, force_terminal=terminal, width=80, height=height)
    return LiveTable(ROWS, 4, console=console, clock=lambda: now[0]), out, now


def plain(table: LiveTable) -> str:
    console = Console(file=io.StringIO(), width=80)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_row_waits_runs_and_has_a_verdict() -> None:
    table, _, _ = made()
    name, active = ROWS[0], [False]
    table.running[name] = lambda: active[0]
    states = [table.state(name)]
    active[0] = True
    states.append(table.state(name))
    active[0] = False
    table.part_done(name)
    states.append(table.state(name))
    table.verdicts[name] = "HOLDS"
    assert [*states, table.state(name)] == ["waiting", "running 0/4", "running 1/4", "HOLDS"]
    assert table.state(ROWS[1]) == "waiting"


def test_the_time_that_is_left_follows_the_finished_tasks() -> None:
    table, _, now = made()
    assert table.remaining() == "?"
    now[0] += 30
    for _ in range(6):
        table.part_done(ROWS[0] if table.done[ROWS[0]] < 4 else ROWS[1])
    assert table.remaining() == "0:01:30", "6 of 24 tasks took 30 s"
    table.verdicts[ROWS[0]] = "HOLDS"
    assert "1 of 6 done, 0:01:30 left" in plain(table)


@pytest.mark.parametrize(("height", "finished", "first", "last"), [(24, 0, 0, 5), (9, 0, 0, 2), (10, 4, 1, 4),
                                                                   (9, 6, 3, 5)])  # fmt: skip
def test_a_small_screen_shows_the_rows_around_the_first_open_one(
    height: int, finished: int, first: int, last: int
) -> None:
    table, _, _ = made(height)
    for name in ROWS[:finished]:
        table.verdicts[name] = "HOLDS"
    found = re.findall(r"(a1|b2) +\W (\w+)", plain(table))
    assert found == ROWS[first : last + 1]
    assert len(plain(table).splitlines()) <= height


def test_a_terminal_shows_the_table_and_the_report_scrolls_above() -> None:
    table, out, _ = made()
    with table:
        table.verdicts[ROWS[0]] = "FAILS"
        sys.stdout.write("one row of the report\n")
    shown = out.getvalue()
    assert "FAILS" in shown
    assert "waiting" in shown
    assert "one row of the report" in shown


def test_without_a_terminal_nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    table, out, _ = made(terminal=False)
    with table:
        table.part_done(ROWS[0])
        sys.stdout.write("one row of the report\n")
    assert out.getvalue() == ""
    assert capsys.readouterr().out == "one row of the report\n"


def test_an_error_ends_the_table() -> None:
    table, _, _ = made()
    with pytest.raises(RuntimeError), table:
        raise RuntimeError
    assert table.live is not None
    assert not table.live.is_started
