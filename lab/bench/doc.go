// Package bench holds, under the build tag bench, the measurements of the whole program: throughput, packet rate, latency
// and memory of `btns up` between two namespaces, beside the plain link, wireguard-go and strongSwan in the same run; and
// what handshakes and ten thousand peers cost it. They need root; `make bench` runs them. Trust ratios: all variants
// alternate within a round, and share the same cores.
package bench
