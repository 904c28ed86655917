//go:build bench

package bench

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/lab/netlab"
)

func TestMain(m *testing.M) { os.Exit(netlab.Main(m)) }

// measure is one figure, taken once from a variant.
type measure struct {
	name, unit string
	must       map[string]float64 // the ratio to reach, by the variant that it is to
	less       bool               // less is better
	take       func(t *testing.T, v variant) float64
}

var measures = []measure{
	{"TCP, 1 stream", "Gbit/s", map[string]float64{"wireguard-go": 2.0, "strongSwan": 6}, false, tcp()},
	{"TCP, 1 stream back", "Gbit/s", map[string]float64{"wireguard-go": 2.0, "strongSwan": 6}, false, tcp("-R")},
	{"TCP, 4 streams", "Gbit/s", map[string]float64{"wireguard-go": 2.3, "strongSwan": 6}, false, tcp("-P4")},
	{"TCP, 4 streams back", "Gbit/s", map[string]float64{"wireguard-go": 2.3, "strongSwan": 6}, false, tcp("-P4", "-R")},
	{"TCP, both ways", "Gbit/s", map[string]float64{"wireguard-go": 2.0, "strongSwan": 6}, false, tcp("--bidir")},
	{"UDP, 64 octets", "kpps", map[string]float64{"wireguard-go": 3.5, "strongSwan": 3}, false, packets},
	{"round trip", "us", nil, true, roundTrip},
	{"memory under load", "MiB", nil, true, memory},
}

var starts = map[string]func(*testing.T) variant{
	"veth": plain, "btns": btns, "wireguard-go": wireguardGo, "strongSwan": strongSwan,
}

// TestPlane measures everything on every variant, in rounds, and prints the medians and the ratios.
func TestPlane(t *testing.T) {
	rounds := 3
	if n, err := strconv.Atoi(os.Getenv("BENCH_ROUNDS")); err == nil {
		rounds = n
	}
	chosen := os.Getenv("BENCH_VARIANTS")
	if chosen == "" {
		chosen = "veth,btns,wireguard-go,strongSwan"
	}
	var variants []variant
	for name := range strings.SplitSeq(chosen, ",") {
		start, ok := starts[name]
		if !ok {
			t.Fatalf("BENCH_VARIANTS has an unknown %q", name)
		}
		v := start(t)
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
		report(t, m, variants, got)
	}
}

func report(t *testing.T, m measure, variants []variant, got map[string][]float64) {
	line := fmt.Sprintf("%-20s %-7s", m.name, m.unit)
	for _, v := range variants {
		line += fmt.Sprintf("  %s %.2f", v.name, median(got[v.name]))
	}
	for _, v := range variants {
		if must, ok := m.must[v.name]; ok && got["btns"] != nil {
			verdict := "reached"
			ratio := median(got["btns"]) / median(got[v.name])
			if ratio < must {
				verdict = "missed"
			}
			line += fmt.Sprintf("  | %.2fx %s, must %.1fx: %s", ratio, v.name, must, verdict)
		}
	}
	t.Log(line)
}

func median(x []float64) float64 {
	x = slices.Sorted(slices.Values(x))
	return x[len(x)/2]
}

const seconds = "2"

// result is what we read of iperf3's JSON.
type result struct {
	End struct {
		Sum struct {
			Packets float64 `json:"packets"`
			Lost    float64 `json:"lost_packets"`
			Seconds float64 `json:"seconds"`
		} `json:"sum"`
		Received struct {
			Rate float64 `json:"bits_per_second"`
		} `json:"sum_received"`
		Reverse struct {
			Rate float64 `json:"bits_per_second"`
		} `json:"sum_received_bidir_reverse"`
	} `json:"end"`
}

func iperf(t *testing.T, v variant, args ...string) result {
	t.Helper()
	out := v.a.RunFor(30*time.Second, append([]string{"iperf3", "-J", "-c", v.to, "-t", seconds}, args...)...)
	var r result
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return r
}

func tcp(args ...string) func(*testing.T, variant) float64 {
	return func(t *testing.T, v variant) float64 {
		t.Helper()
		r := iperf(t, v, args...)
		return (r.End.Received.Rate + r.End.Reverse.Rate) / 1e9
	}
}

// packets offers more small datagrams than fit, and counts those that arrive.
func packets(t *testing.T, v variant) float64 {
	t.Helper()
	r := iperf(t, v, "-u", "-b0", "-l64")
	return (r.End.Sum.Packets - r.End.Sum.Lost) / r.End.Sum.Seconds / 1e3
}

var rtt = regexp.MustCompile(`time=([\d.]+)`)

// roundTrip is the median of many echoes.
func roundTrip(t *testing.T, v variant) float64 {
	t.Helper()
	out := v.a.RunFor(20*time.Second, "ping", "-n", "-c400", "-i0.004", v.to)
	var times []float64
	for _, m := range rtt.FindAllStringSubmatch(out, -1) {
		ms, err := strconv.ParseFloat(m[1], 64)
		if err != nil {
			t.Fatal(err)
		}
		times = append(times, ms*1000)
	}
	return median(times)
}

func memory(t *testing.T, v variant) float64 {
	t.Helper()
	if v.rss == nil {
		return 0
	}
	return float64(v.rss(t)) / 1024
}
