#!/usr/bin/env bash
# The steps of the main job, a line each; what they print goes to outputs/paper.log.
#
#   make paper        V=1 also shows what they print
#
# Ends with the exit code of the first step that fails, after the last lines of what it printed.
set -uo pipefail
cd "$(dirname "$0")/.."
make=${MAKE:-make}
log=outputs/paper.log
steps=(setup theory study figures pdf)
about=(
  "packages and the embedded model"
  "convergence bounds, their algebra, worst cases, certificates, curves, adversary"
  "train the methods of the quick study"
  "figures, tables and numbers"
  "compile the PDF"
)

mkdir -p outputs && : >"$log" || exit 1
echo "what the steps print goes to $log (V=1 shows it here too)"
for i in "${!steps[@]}"; do
  begin=$SECONDS
  start=$(wc -l <"$log")
  printf 'step %d of %d: %s (make %s) ... ' $((i + 1)) ${#steps[@]} "${about[i]}" "${steps[i]}"
  code=0
  if [ -n "${V:-}" ]; then
    echo
    "$make" --no-print-directory "${steps[i]}" 2>&1 | tee -a "$log" || code=$?
  else
    "$make" --no-print-directory "${steps[i]}" >>"$log" 2>&1 || code=$?
  fi
  if [ "$code" != 0 ]; then
    echo "failed"
    [ -n "${V:-}" ] || tail -n "+$((start + 1))" "$log" | tail -n 20 >&2
    echo "error: step $((i + 1)) of ${#steps[@]}, make ${steps[i]}, failed; all that it printed is in $log" >&2
    exit "$code"
  fi
  echo "done in $((SECONDS - begin)) s"
  [ -n "${V:-}" ] || tail -n "+$((start + 1))" "$log" | grep -a -i '^warning' || true
done
tail -n 1 "$log"
