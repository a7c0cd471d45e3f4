#!/usr/bin/env bash
# Compile paper/main.tex to paper/build/paper.pdf with latexmk, or tectonic where that is what there is.
# Without any TeX, root on Debian installs a small one with apt; everybody else is told what to install (exit 3).
set -euo pipefail
cd "$(dirname "$0")"
packages="latexmk texlive-latex-recommended lmodern"

have_tex() { { command -v latexmk && command -v pdflatex; } >/dev/null || command -v tectonic >/dev/null; }

if [ "${TEX:-auto}" = none ] || { ! have_tex && { [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; }; }; then
  echo "the figures are in paper/build/figures; for the PDF install TeX (apt-get install -y $packages) and run make paper" >&2
  exit 3
fi
if ! have_tex; then
  echo "installing a small TeX: $packages (about a minute)"
  apt-get update -qq
  # shellcheck disable=SC2086  # a list of packages
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages >build/apt.log 2>&1 ||
    { echo "error: apt-get install $packages failed; see paper/build/apt.log" >&2; exit 3; }
fi
if command -v latexmk >/dev/null; then
  latexmk -pdf -interaction=nonstopmode -halt-on-error -silent -outdir=build -jobname=paper main.tex >build/tex.out 2>&1 ||
    { tail -n 40 build/paper.log >&2; echo "error: LaTeX failed; see paper/build/paper.log" >&2; exit 1; }
else
  tectonic -X compile main.tex --outdir build && mv build/main.pdf build/paper.pdf
fi
echo "$PWD/build/paper.pdf"
