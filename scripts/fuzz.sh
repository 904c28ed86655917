#!/bin/bash
# Runs every fuzz target of the module for the time given, one after the other; all of them, even if one finds something.
#
#   fuzz.sh TIME [PATTERN]     e.g. fuzz.sh 10s Notify
#
# What is found is written to the package's testdata/fuzz: commit it with the fix.
set -euo pipefail
cd "$(dirname "$0")/.."
go=${GO:-go}
time=${1:-60s} pattern=${2:-.}

targets=$(grep -rnoE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' . | grep -v /testdata/ |
    sed -E 's#^(.*)/[^/]*_test\.go:[0-9]+:func (Fuzz.*)#\1 \2#' | sort | grep -E "$pattern" || true)
[ -n "$targets" ] || { echo "fuzz: no target matches $pattern" >&2; exit 1; }

failed=()
while read -r dir name; do
    echo "== $dir $name"
    # Without the limit most of the time goes into making inputs smaller whose coverage differs from run to run.
    "$go" test -run '^$' -fuzz "^$name\$" -fuzztime "$time" -fuzzminimizetime 100x "$dir" </dev/null || failed+=("$dir $name")
done <<<"$targets"

echo "== $(wc -l <<<"$targets") fuzz targets, $time each, ${#failed[@]} with findings"
[ ${#failed[@]} = 0 ] || { printf '%s\n' "${failed[@]}" >&2; exit 1; }
