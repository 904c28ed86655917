#!/bin/bash
# All tests: vet, the ordinary tests under the race detector, then those of the lab (network namespaces, strongSwan,
# Libreswan); at the end, whether every requirement of docs/requirements.txt has a test that ran. Installs what they need.
set -euo pipefail
cd "$(dirname "$0")/.."
go=${GO:-go}

if [ "$(id -u)" != 0 ]; then
    echo "make test: needs root, for network namespaces and to install the peers that it tests against; without root, run: make check" >&2
    exit 1
fi

stage() {
    local start=$SECONDS
    echo "== $*"
    "$@"
    echo "== took $((SECONDS - start)) s: $*"
}

# tests prints what go test prints, and keeps the results of tests that name a requirement.
results=bin/results.txt
tests() { "$go" test -json "$@" | bin/coverage print $results; }

mkdir -p bin
rm -f $results
stage scripts/install-deps.sh test
stage "$go" vet -tags lab ./...
stage "$go" build -o bin/coverage ./internal/coverage
stage tests -race -timeout 20m ./...
stage tests -tags lab -count=1 -timeout 25m -parallel "${LAB_PARALLEL:-4}" ./lab/...
stage bin/coverage check $results
echo "== all tests pass, after $SECONDS s"
