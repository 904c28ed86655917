#!/bin/bash
# Rates and ratios. First the parts (benchmarks of the packages: no network, no root), then the whole program between two
# namespaces, beside the plain link, wireguard-go and strongSwan in the same run; and handshakes and memory with ten
# thousand peers, which idle for ten minutes.
#
#   BENCH_ROUNDS       how often each figure is taken; the median counts (3)
#   BENCH_VARIANTS     e.g. veth,btns
#   BENCH_HANDSHAKES   how many are made for each rate (10000)
set -euo pipefail
cd "$(dirname "$0")/.."
go=${GO:-go}

"$go" test -run '^$' -bench . -benchmem ./...
if [ "$(id -u)" != 0 ]; then
    echo "make bench: the figures of the whole program need root, for network namespaces" >&2
    exit 1
fi
scripts/install-deps.sh test
"$go" test -tags bench -count=1 -timeout 90m -v ./lab/bench
