"""API documentation of bcd: every public name with its arguments, and links and a search that need no server."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import bcd
from tests.pages.conftest import broken

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def documented(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the API documentation in `api`, beside the page that it links back to."""
    folder = tmp_path_factory.mktemp("documented")
    code = f"import pathlib; from pages import api; api.write(pathlib.Path({str(folder / 'api')!r}))"
    subprocess.run([sys.executable, "-W", "error::RuntimeWarning", "-c", code], check=True)
    (folder / "index.html").write_text("results")
    return folder


def test_every_public_name_is_there(documented: Path) -> None:
    text = (documented / "api" / "bcd.html").read_text(encoding="utf-8")
    assert [name for name in bcd.__all__ if f'id="{name}"' not in text] == []


def test_arguments_have_entries(documented: Path) -> None:
    text = " ".join((documented / "api" / "bcd" / "execution.html").read_text(encoding="utf-8").split())
    assert "<li><strong>recompute:</strong> budget in bytes" in text
    assert "<li><strong>ValueError:</strong>" in text


def test_links_resolve(documented: Path) -> None:
    assert len(list(documented.rglob("*.html"))) > 40
    assert broken(documented) == []


def test_pages_open_and_the_search_finds(documented: Path, tab: Any) -> None:
    tab.goto((documented / "api" / "bcd.html").as_uri())
    tab.get_by_role("searchbox").fill("RandomReshuffle")
    found = tab.locator("main.pdoc a", has_text="RandomReshuffle").first
    found.wait_for()
    found.click()
    assert tab.url.partition("#")[2].startswith("RandomReshuffle")
    tab.locator("nav a", has_text="Results").click()
    assert tab.inner_text("body") == "results"
