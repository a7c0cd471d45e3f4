"""The results in README.md are those that the committed records say."""

import pytest

from paper import readme
from records import RecordError


@pytest.fixture(scope="module")
def results() -> str:
    return readme.text()


def test_the_results_are_those_that_the_command_would_write(results: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readme, "text", lambda: results)
    content = readme.README.read_text(encoding="utf-8")
    assert readme.replaced(content) == content, "run `python -m paper.readme`"
    assert readme.FIGURE.read_bytes().startswith(b"\x89PNG")


def test_every_method_has_a_loss_with_its_interval_memory_and_time(results: str) -> None:
    rows = [line.strip("| ").split(" | ") for line in results.splitlines() if line.startswith("| ")]
    (head,) = (row for row in rows if row[0] == "method" and "step (ms)" in row)
    (adamw,) = (row for row in rows if row[0] == "AdamW")
    assert len(head) == len(adamw)
    losses = [cell.split(" ± ") for cell in adamw[1:5]]
    assert all(0 < float(half) < 0.02 < float(mean) for mean, half in losses)
    assert {row[0] for row in rows} >= {*readme.METHODS.values(), *readme.FASTER.values(), "LISA", "AdamW\\*"}
    assert not any(cell == "--" for row in rows if row[0] in readme.METHODS.values() for cell in row)


def test_the_verdict_names_its_regime(results: str) -> None:
    text = " ".join(results.split())
    assert "**Verdicts for this model.** *At 180 steps*: BAdam's loss minus LoRA's is" in text
    assert "*At LoRA's time of 180 steps*: BAdam's" in text
    assert '"better than LoRA" is not supported.' in text


def test_a_file_without_the_markers_is_refused() -> None:
    with pytest.raises(RecordError, match="needs the lines"):
        readme.replaced(f"# bcd\n{readme.END}\n")


def test_results_that_are_missing_are_named(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readme, "COMMITTED", tmp_path)
    with pytest.raises(RecordError, match=r"headline\.jsonl has no finished train runs, which README\.md shows"):
        readme.text()
