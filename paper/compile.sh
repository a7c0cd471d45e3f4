#!/usr/bin/env bash
# Compile paper/main.tex to paper/build/paper.pdf with latexmk and pdflatex, or tectonic where that is what there is.
# Without any TeX, root on Debian installs a small one with apt; everybody else is told what to install (exit 3).
set -euo pipefail
cd "$(dirname "$0")"
mkdir -p build
packages=(latexmk texlive-latex-recommended lmodern)

have_latex() { command -v latexmk >/dev/null && command -v pdflatex >/dev/null; }
have_tex() { have_latex || command -v tectonic >/dev/null; }
without_pdf() {
  echo "$1; the figures are in paper/build/figures. For the PDF: apt-get install -y ${packages[*]}, then make paper" >&2
  exit 3
}

[ "${TEX:-auto}" != none ] || without_pdf "TEX=none leaves the PDF out"
if ! have_tex; then
  { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; } || without_pdf "no TeX is installed"
  echo "installing a small TeX: ${packages[*]} (about a minute)"
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${packages[@]}"; } ||
    without_pdf "apt-get could not install TeX"
fi
if have_latex; then
  # -g: an error of an earlier call must not be taken for the answer.
  latexmk $([ -e build/failed ] && echo -g) -pdf -interaction=nonstopmode -halt-on-error -silent -outdir=build \
    -jobname=paper main.tex >build/tex.out 2>&1 || {
    touch build/failed
    tail -n 40 build/tex.out >&2
    echo "error: LaTeX failed; see paper/build/paper.log" >&2
    exit 1
  }
  rm -f build/failed
else
  tectonic -X compile main.tex --outdir build --keep-logs
  mv build/main.pdf build/paper.pdf
  mv build/main.log build/paper.log
fi
# LaTeX only warns of a table that runs over the end of its page.
if large=$(grep -a "Float too large" build/paper.log); then
  echo "$large" >&2
  echo "error: a float is too large for its page, at the input lines above; divide the table, or make the figure lower" >&2
  exit 1
fi
# Nor does it stop for what runs over the margin; a few points cannot be seen.
if wide=$(grep -aE 'Overfull \\hbox \(([5-9]|[0-9]{2,})(\.[0-9]+)?pt too wide' build/paper.log); then
  echo "$wide" >&2
  echo "error: a line or a table is wider than the text, at the input lines above; shorten it, or drop a column" >&2
  exit 1
fi
echo "$PWD/build/paper.pdf"
