#!/bin/bash
# Builds btns and runs its demo: two hosts in network namespaces, real traffic, and an impostor.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "$(id -u)" != 0 ]; then
    echo "make demo: needs root, for network namespaces and a TUN device" >&2
    exit 1
fi
scripts/install-deps.sh demo
CGO_ENABLED=0 "${GO:-go}" build -trimpath -o bin/btns ./cmd/btns
exec bin/btns demo
