"""API documentation of bcd by pdoc, from its docstrings, in the folder `api` of the site.

The examples in the docstrings are run by the test suite, which collects the doctests of every package.
"""

import re
import warnings
from pathlib import Path

from records import ROOT

INDEX = "bcd.html"
"""The page of the package, which the navigation leads to."""
TEMPLATES = Path(__file__).resolve().parent / "templates" / "api"
LEFT_OUT = "bcd.execution.kernels"
"""Its modules import what only a machine with their kind of GPU has."""


def modules() -> list[str]:
    """The package and its modules by name, but for `LEFT_OUT`."""
    files = (file.relative_to(ROOT).with_suffix("") for file in (ROOT / "bcd").rglob("*.py"))
    names = (".".join(file.parts).removesuffix(".__init__") for file in files)
    return sorted(name for name in names if not name.startswith(LEFT_OUT))


def write(folder: Path) -> None:
    """Write a page for each of `modules`, and a search that needs no server.

    Args:
        folder: where they go.
    """
    import pdoc  # torch comes with what it documents, which takes seconds
    import pdoc.render

    said = "The examples are run by the test suite."
    pdoc.render.configure(docformat="google", show_source=False, template_directory=TEMPLATES, footer_text=said)
    with warnings.catch_warnings():
        # pdoc finds the modules of a package that has no __all__ itself.
        warnings.filterwarnings("ignore", "The module specification .* adds a module named")
        pdoc.pdoc(*modules(), f"!{LEFT_OUT}", output_directory=folder)
    _unlink(folder)


def _unlink(folder: Path) -> None:
    """Leave the text of links to places that no page has: pdoc links to private bases, which it leaves out."""
    texts = {file.resolve(): file.read_text(encoding="utf-8") for file in folder.rglob("*.html")}
    places = {file: set(re.findall(r'id="([^"]+)"', text)) for file, text in texts.items()}
    for file, text in texts.items():

        def shown(match: re.Match[str], file: Path = file) -> str:
            target = (file.parent / match["path"]).resolve() if match["path"] else file
            return match[0] if match["place"] in places.get(target, ()) else match["text"]

        link = r'<a href="(?P<path>[^"#:]*)#(?P<place>[^"]+)">(?P<text>.*?)</a>'
        file.write_text(re.sub(link, shown, text), encoding="utf-8")
