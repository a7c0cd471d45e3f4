#!/usr/bin/env bash
# What a release has, in outputs/release: the wheel of bcd, the site, paper.pdf, and the checksums of the three.
#
#   make release      DIRTY=1 also of files that are not committed
#
# The PDF is built of the records that are there (make paper makes those that are missing). A step that fails ends it
# with the exit code of that step, and leaves no release.
set -euo pipefail
cd "$(dirname "$0")/.."
: "${RUN:?give RUN, the Python of the virtual environment, or use make release}"
make=${MAKE:-make}
release=outputs/release

changes=$(git status --porcelain)
if [ -n "$changes" ] && [ -z "${DIRTY:-}" ]; then
  head -n 20 <<<"$changes" >&2
  echo "error: a release is of a commit, and the files above are not as committed; commit them, or give DIRTY=1" >&2
  exit 2
fi
rm -rf "$release" "$release.partial"
mkdir -p "$release.partial"
"$make" --no-print-directory check
for step in figures pdf site; do
  "$make" --no-print-directory "$step"
done
rm -rf build  # setuptools would pack modules that are gone
"$RUN" -m pip wheel . --quiet --no-deps --no-build-isolation -w "$release.partial"
cp paper/build/paper.pdf "$release.partial"
tar -czf "$release.partial/site.tar.gz" -C outputs site
(cd "$release.partial" && sha256sum -- * >SHA256SUMS)
mv "$release.partial" "$release"
echo "$release of $(git rev-parse --short HEAD)${changes:+ with changes}:"
cat "$release/SHA256SUMS"
