#!/bin/bash
# All tests: vet, the ordinary tests under the race detector, then those of the lab (network namespaces, strongSwan,
# Libreswan). Installs what they need.
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

stage scripts/install-deps.sh test
stage "$go" vet -tags lab ./...
stage "$go" test -race -timeout 20m ./...
stage "$go" test -tags lab -count=1 -timeout 25m -parallel "${LAB_PARALLEL:-4}" ./lab/...
echo "== all tests pass, after $SECONDS s"
