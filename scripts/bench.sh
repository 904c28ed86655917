#!/bin/bash
# The benchmarks of the packages: rates and allocations of the parts, without the network.
set -euo pipefail
cd "$(dirname "$0")/.."
exec "${GO:-go}" test -run '^$' -bench . -benchmem ./...
