"""A site of the committed results and of small records of theory, built once, and what is on its pages."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import pages.build
import paper.build
from pages.page import Page
from records import write
from tests.paper import small

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@dataclass
class Found(HTMLParser):
    """What a page links to and loads, its ids, and its tables: heads and rows of (text, data-value)."""

    links: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    tables: list[list[list[tuple[str, str | None]]]] = field(default_factory=list)
    captions: list[str] = field(default_factory=list)
    inside: str = ""

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.links += [str(given[name]) for name in ("href", "src") if name in given]
        self.ids += [str(given["id"])] if "id" in given else []
        if tag == "table":
            self.tables.append([])
            self.captions.append("")
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append(("", given.get("data-value")))
        self.inside = tag if tag in ("td", "th", "caption") else self.inside

    def handle_endtag(self, tag: str) -> None:
        self.inside = "" if tag == self.inside else self.inside

    def handle_data(self, data: str) -> None:
        if self.inside == "caption":
            self.captions[-1] += data
        elif self.inside:
            text, value = self.tables[-1][-1][-1]
            self.tables[-1][-1][-1] = (text + data, value)

    def table(self, caption: str) -> list[dict[str, str]]:
        """The rows of the table with that caption, by head."""
        ((heads, *rows),) = (t for t, c in zip(self.tables, self.captions, strict=True) if c == caption)
        return [dict(zip((h for h, _ in heads), (text for text, _ in row), strict=True)) for row in rows]


def found(file: Path) -> Found:
    parser = Found()
    parser.feed(file.read_text(encoding="utf-8"))
    return parser


def broken(folder: Path) -> list[str]:
    """Links of the pages in the folder that lead nowhere."""
    wrong = []
    everything = {file: found(file) for file in folder.rglob("*.html")}
    for file, page in everything.items():
        for link in page.links:
            path, _, place = link.partition("#")
            target = (file.parent / path).resolve() if path else file
            if link.startswith(("data:", "https://docs.python.org")):
                continue
            if not target.is_file() or (place and target in everything and place not in everything[target].ids):
                wrong.append(f"{file.relative_to(folder)}: {link}")
    return wrong


@dataclass(frozen=True)
class Site:
    folder: Path
    pages: list[Page]

    def __call__(self, path: str) -> Found:
        return found(self.folder / path)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, Path], None]:
    """reads(outputs, committed) makes pages of the records in those folders."""
    return lambda outputs, committed: use(monkeypatch, outputs, committed)


def use(patch: pytest.MonkeyPatch, outputs: Path, committed: Path) -> None:
    for module in (pages.build, paper.build):
        patch.setattr(module, "OUTPUTS", outputs)
        patch.setattr(module, "COMMITTED", committed)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    outputs = tmp_path_factory.mktemp("outputs")
    for record in small.theory_records():
        write(record, outputs)
    folder = tmp_path_factory.mktemp("site") / "site"
    with pytest.MonkeyPatch.context() as patch:
        use(patch, outputs, paper.build.COMMITTED)
        everything = pages.build.collect()
    pages.build.write(everything, folder, with_api=False)
    return Site(folder, everything)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A headless Chromium that is installed; playwright's own browsers are not downloaded."""
    if CHROMIUM is None:
        pytest.skip("no chromium is installed (Debian: apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def tab(browser: Any) -> Iterator[Any]:
    """A page that fails the test for whatever it warns of, raises or cannot load."""
    faults: list[str] = []
    page = browser.new_page()
    told = ("error", "warning")
    page.on("console", lambda message: faults.append(message.text) if message.type in told else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("requestfailed", lambda request: faults.append(request.url))
    yield page
    page.close()
    assert faults == []
