"""`python -m pages.build`: the results as static pages and the API documentation of bcd, in outputs/site.

The pages are made of the records that the paper is made of, by the paper's functions, and open without a server.
"""

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import jinja2

from pages import api, costs, judged, methods, results, svg, theory
from pages.page import Code, Missing, Page, Picture, Table
from paper.build import runs
from records import COMMITTED, OUTPUTS, ROOT, Record, RecordError, read_study

SITE = ROOT / "outputs" / "site"
FOLDER = Path(__file__).resolve().parent
MARK = ".site"
"""File of a folder that this module made, which it may therefore replace."""
KINDS = {Table: "table", Picture: "picture", Code: "code", Missing: "missing", str: "text"}


def collect() -> list[Page]:
    """Every page, of this clone's own runs or the committed ones of each study.

    Raises:
        RecordError: when a file of records is not valid.
    """
    reader = cache(read_study)

    def read(studies: dict[str, tuple[str, str]]) -> dict[str, list[Record]]:
        return {argument: runs(kind, study, reader) for argument, (kind, study) in studies.items()}

    trained = [record for study in studied() for record in runs("train", study, reader)]
    by_method = methods.by_method(trained)
    return [
        *results.pages(read(results.STUDIES), by_method),
        *judged.pages(read(judged.STUDIES)),
        *costs.pages(read(costs.STUDIES)),
        *theory.pages(read(theory.STUDIES)),
        *methods.pages(by_method),
    ]


def studied() -> list[str]:
    """Names of all studies that have records here."""
    own = [folder.name for folder in OUTPUTS.glob("*") if any(folder.glob("*.json"))]
    return sorted({*own, *(file.stem for folder in (OUTPUTS, COMMITTED) for file in folder.glob("*.jsonl"))})


def write(pages: Sequence[Page], folder: Path, *, with_api: bool) -> None:
    """Write the pages with their figures, the style sheet and the script.

    Args:
        pages: of one site.
        folder: is replaced as a whole.
        with_api: whether the navigation leads to the API documentation.

    Raises:
        RecordError: when the folder holds files that are not of a site.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / MARK).is_file():
        raise RecordError(f"{folder} is not empty and not a site of pages.build; choose another with --to")
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    (folder / MARK).write_text("made by python -m pages.build; replaced as a whole\n", encoding="utf-8")
    shutil.copytree(FOLDER / "static", folder / "static")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("page.html.j2")
    navigation = [(page.path, page.title) for page in pages if page.above is None]
    navigation += [(f"api/{api.INDEX}", "API")] if with_api else []
    for page in pages:
        file = folder / page.path
        file.parent.mkdir(parents=True, exist_ok=True)
        parts = [(KINDS[type(part)], part) for part in page.parts]
        up = os.path.relpath(folder, file.parent) + "/"
        shown = template.render(page=page, parts=parts, navigation=navigation, up="" if up == "./" else up)
        file.write_text(shown, encoding="utf-8")
        for part in page.parts:
            if isinstance(part, Picture):
                figure = folder / "figures" / f"{part.name}.svg"
                figure.parent.mkdir(exist_ok=True)
                figure.write_text(svg.svg(part.drawn, part.name, part.title), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument(
        "--to", type=Path, default=SITE, metavar="FOLDER", help="where to write (default: %(default)s)"
    )
    parser.add_argument("--no-api", action="store_true", help="leave the API documentation out")
    options = parser.parse_args()
    try:
        pages = collect()
        write(pages, options.to, with_api=not options.no_api)
    except (RecordError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    for page in pages:
        for part in page.parts:
            if isinstance(part, Missing):
                print(f"{page.path}: {part.what} has no records; make them with `{part.command}`")
    if not options.no_api:
        api.write(options.to / "api")
    print(f"{options.to / 'index.html'}: {len(pages)} pages")


if __name__ == "__main__":
    main()
