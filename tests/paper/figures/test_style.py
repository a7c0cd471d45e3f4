"""The look of figures is that of the repository."""

import subprocess
import sys

from records import ROOT

CODE = "import matplotlib as mpl; from paper.figures import style; print(sorted(mpl.rcParams.items()))"


def test_a_users_matplotlibrc_changes_no_figure(tmp_path, monkeypatch):
    printed = []
    for text in ("", "font.family: monospace\naxes.facecolor: black\nlines.linewidth: 9\naxes.linewidth: 7\n"):
        (tmp_path / "matplotlibrc").write_text(text)
        monkeypatch.setenv("MATPLOTLIBRC", str(tmp_path / "matplotlibrc"))
        done = subprocess.run([sys.executable, "-c", CODE], cwd=ROOT, capture_output=True, text=True, check=True)
        printed.append(done.stdout)
    assert printed[0] == printed[1]
