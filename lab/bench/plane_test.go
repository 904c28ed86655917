//go:build bench

package bench

import (
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/btns-ipsec/btns/lab/netlab"
)

func TestMain(m *testing.M) { os.Exit(netlab.Main(m)) }

// measure is one figure, taken in every round from every variant.
type measure struct {
	name, unit string
	less       bool   // less is better
	must       []must // of btns
	take       func(*testing.T, variant) float64
}

// must is a ratio to another variant that btns has to reach, or without a variant a figure.
type must struct {
	to    string
	ratio float64
}

// The targets are those of the project's performance plan. Those against wireguard-go compare AES-128-GCM with the one
// cipher that it has; TestCipher compares like with like.
var measures = []measure{
	{"TCP, 1 stream", "Gbit/s", false, []must{{"wireguard-go", 2.0}, {"strongSwan", 6}}, tcp()},
	{"TCP, 1 stream back", "Gbit/s", false, []must{{"wireguard-go", 2.0}, {"strongSwan", 6}}, tcp("-R")},
	{"TCP, 4 streams", "Gbit/s", false, []must{{"wireguard-go", 2.3}, {"strongSwan", 6}}, tcp("-P4")},
	{"TCP, 4 streams back", "Gbit/s", false, []must{{"wireguard-go", 2.3}, {"strongSwan", 6}}, tcp("-P4", "-R")},
	{"TCP, both ways", "Gbit/s", false, []must{{"wireguard-go", 2.0}, {"strongSwan", 6}}, tcp("--bidir")},
	{"processor, TCP", "s/Gbit", true, []must{{"wireguard-go", 0.45}}, processor},
	{"UDP, 64 octets", "kpps", false, []must{{"wireguard-go", 3.5}, {"strongSwan", 3}}, packets(64)},
	{"UDP, 200 octets", "kpps", false, []must{{"wireguard-go", 3.5}}, packets(200)},
	{"round trip", "us", true, nil, roundTrip},
	{"memory under load", "MiB", true, []must{{"", 32}}, memory},
}

var starts = map[string]func(*testing.T, link) variant{
	"veth": plain, "btns": btns, "btns-chacha": btnsChaCha, "wireguard-go": wireguardGo, "strongSwan": strongSwan,
}

// TestPlane measures everything on every variant, in rounds, and prints the medians and the ratios.
func TestPlane(t *testing.T) {
	chosen := os.Getenv("BENCH_VARIANTS")
	if chosen == "" {
		chosen = "veth,btns,wireguard-go,strongSwan"
	}
	run(t, link{}, measures, strings.Split(chosen, ",")...)
}

// TestCipher compares like with like: wireguard-go speaks nothing but ChaCha20-Poly1305.
func TestCipher(t *testing.T) {
	m := []measure{{"TCP, 1 stream", "Gbit/s", false, []must{{"wireguard-go", 1.4}}, tcp()}}
	run(t, link{}, m, "btns-chacha", "wireguard-go")
}

// TestWire measures on a link that carries every packet by itself, as the cable of a plain network card does.
func TestWire(t *testing.T) {
	m := []measure{{"TCP, 1 stream", "Gbit/s", false, []must{{"wireguard-go", 2.2}}, tcp()}}
	run(t, link{whole: true}, m, "btns", "wireguard-go")
}

func run(t *testing.T, l link, measures []measure, names ...string) {
	rounds := 3
	if n, err := strconv.Atoi(os.Getenv("BENCH_ROUNDS")); err == nil {
		rounds = n
	}
	var variants []variant
	for _, name := range names {
		start, ok := starts[name]
		if !ok {
			t.Fatalf("there is no variant %q", name)
		}
		v := start(t, l)
		v.name = name
		variants = append(variants, v)
		v.b.Start("iperf3", "iperf3", "-s")
	}
	for _, m := range measures {
		got := map[string][]float64{}
		for range rounds {
			for _, v := range variants {
				got[v.name] = append(got[v.name], m.take(t, v))
			}
		}
		middle := map[string]float64{}
		for name, x := range got {
			middle[name] = median(x)
		}
		report(t, m, names, middle)
		if m.name == "round trip" {
			added(t, middle)
		}
	}
}

func report(t *testing.T, m measure, names []string, got map[string]float64) {
	line := fmt.Sprintf("%-20s %-7s", m.name, m.unit)
	for _, name := range names {
		if !math.IsNaN(got[name]) {
			line += fmt.Sprintf("  %s %.3g", name, got[name])
		}
	}
	ours := got[names[slices.IndexFunc(names, func(n string) bool { return strings.HasPrefix(n, "btns") })]]
	for _, must := range m.must {
		theirs, ok := got[must.to]
		if must.to == "" {
			theirs, ok = 1, true
		}
		if ok {
			line += verdict(ours/theirs, must, m.less)
		}
	}
	t.Log(line)
}

// verdict says whether a ratio is good enough.
func verdict(ratio float64, m must, less bool) string {
	said := "reached"
	if less && ratio > m.ratio || !less && ratio < m.ratio || math.IsNaN(ratio) {
		said = "missed"
	}
	if m.to == "" {
		return fmt.Sprintf("  | must %.3g: %s", m.ratio, said)
	}
	return fmt.Sprintf("  | %.2fx %s, must %.2gx: %s", ratio, m.to, m.ratio, said)
}

// added reports what a tunnel adds to the round trip of the plain link.
func added(t *testing.T, trip map[string]float64) {
	plain, ok := trip["veth"]
	theirs, also := trip["wireguard-go"]
	if ours, there := trip["btns"]; ok && also && there {
		m := must{"wireguard-go", 0.5}
		t.Logf("%-20s %-7s  btns %.3g  wireguard-go %.3g%s", "added to it", "us", ours-plain, theirs-plain, verdict((ours-plain)/(theirs-plain), m, true))
	}
}

func median(x []float64) float64 {
	x = slices.Sorted(slices.Values(x))
	return x[len(x)/2]
}
