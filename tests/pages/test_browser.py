"""The site in headless Chromium: pages open from the file system without an error, tables sort, both themes differ."""

from typing import Any

import pytest

from tests.pages.conftest import Site

pytestmark = pytest.mark.slow


def test_every_page_opens(tab: Any, site: Site) -> None:
    requested: list[str] = []
    tab.on("request", lambda request: requested.append(request.url))
    for page in site.pages:
        tab.goto((site.folder / page.path).as_uri())
        assert tab.inner_text("h1") == page.title
        assert tab.evaluate("[...document.images].every((image) => image.naturalWidth > 0)"), page.path
    assert {url.partition(":")[0] for url in requested} <= {"file", "data"}


def column(tab: Any, place: int) -> list[str]:
    return tab.locator(f"table tbody tr td:nth-child({place})").all_inner_texts()


def test_a_table_sorts_by_number_with_mouse_and_keyboard(tab: Any, site: Site) -> None:
    tab.goto((site.folder / "cost.html").as_uri())
    head = tab.locator("th", has_text="tokens a second")
    place = head.evaluate("(head) => head.cellIndex") + 1
    rows = tab.locator("tbody tr").all_inner_texts()
    assert head.get_attribute("aria-sort") is None
    head.locator("button").click()
    up = [int(text.replace(",", "")) for text in column(tab, place)]
    assert head.get_attribute("aria-sort") == "ascending"
    assert up == sorted(up)
    assert up[0] < up[-1]
    tab.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    assert [int(text.replace(",", "")) for text in column(tab, place)] == up[::-1]
    tab.locator("th", has_text="method").locator("button").click()
    assert head.get_attribute("aria-sort") is None, "one column at a time"
    assert sorted(tab.locator("tbody tr").all_inner_texts()) == sorted(rows), "rows stay whole"


def test_links_lead_to_pages(tab: Any, site: Site) -> None:
    tab.goto((site.folder / "index.html").as_uri())
    tab.locator("tbody a", has_text="BAdam").first.click()
    assert tab.url.endswith("methods/badam.html")
    tab.locator("nav a", has_text="Theory").click()
    assert tab.inner_text("h1") == "Theory"


@pytest.mark.parametrize(("scheme", "dark"), [("light", False), ("dark", True)])
def test_the_theme_is_the_readers(tab: Any, site: Site, scheme: str, dark: bool) -> None:
    tab.emulate_media(color_scheme=scheme)
    tab.goto((site.folder / "index.html").as_uri())
    red = "(style) => Number(getComputedStyle(document.body)[style].match(/\\d+/)[0])"
    paper, ink = (tab.evaluate(red, style) for style in ("backgroundColor", "color"))
    assert (paper < ink) is dark
    assert abs(paper - ink) > 150
