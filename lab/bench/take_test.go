//go:build bench

package bench

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/lab/netlab"
)

const seconds = 2 // of one run

// result is what we read of iperf3's JSON.
type result struct {
	End struct {
		Received struct {
			Rate float64 `json:"bits_per_second"`
		} `json:"sum_received"`
		Reverse struct {
			Rate float64 `json:"bits_per_second"`
		} `json:"sum_received_bidir_reverse"`
	} `json:"end"`
}

// tcp is the rate of iperf3 with arguments, in Gbit/s.
func tcp(args ...string) func(*testing.T, variant) float64 {
	return func(t *testing.T, v variant) float64 {
		t.Helper()
		out := v.a.RunFor(30*time.Second, append([]string{"iperf3", "-J", "-c", v.to, "-t", strconv.Itoa(seconds)}, args...)...)
		var r result
		if err := json.Unmarshal([]byte(out), &r); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return (r.End.Received.Rate + r.End.Reverse.Rate) / 1e9
	}
}

// processor is the time that both ends together spend on a Gbit, in seconds.
func processor(t *testing.T, v variant) float64 {
	t.Helper()
	if len(v.pids) == 0 {
		return math.NaN()
	}
	before := spent(t, v.pids)
	rate := tcp()(t, v)
	return (spent(t, v.pids) - before) / (rate * seconds)
}

// spent is the processor time that processes have had, in seconds.
func spent(t *testing.T, pids []int) (sum float64) {
	t.Helper()
	const ticks = 100 // USER_HZ
	for _, pid := range pids {
		stat := netlab.ReadFile(t, "/proc/"+strconv.Itoa(pid)+"/stat")
		f := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
		for _, text := range f[11:13] { // utime, stime
			n, err := strconv.Atoi(text)
			if err != nil {
				t.Fatal(err)
			}
			sum += float64(n) / ticks
		}
	}
	return sum
}

const listening = "listening\n" // says the counter

// packets offers more datagrams than fit, and counts those that arrive, in thousands a second.
func packets(size int) func(*testing.T, variant) float64 {
	return func(t *testing.T, v variant) float64 {
		t.Helper()
		bin, err := blast(v.a.Lab())
		if err != nil {
			t.Fatal(err)
		}
		counter := v.b.Start(fmt.Sprintf("blast-%d", time.Now().UnixNano()), bin, "-on", v.to+":6001")
		netlab.Until(t, 5*time.Second, "the counter listens", func() error { return netlab.Contains(counter.Log(), listening) })
		v.a.RunFor(10*time.Second, bin, "-to", v.to+":6001", "-size", strconv.Itoa(size), "-for", strconv.Itoa(seconds)+"s")
		counter.Wait(20 * time.Second)
		n, err := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(counter.Log(), listening)))
		if err != nil {
			t.Fatal(err)
		}
		return float64(n) / seconds / 1e3
	}
}

// blast builds the source of datagrams.
func blast(l *netlab.Lab) (string, error) {
	bin := l.Path("blast")
	if _, err := os.Stat(bin); err == nil {
		return bin, nil
	}
	build := exec.Command("go", "build", "-o", bin, "./lab/bench/blast")
	build.Dir, build.Stderr = netlab.Root(), os.Stderr
	return bin, build.Run()
}

var rtt = regexp.MustCompile(`time=([\d.]+)`)

// roundTrip is the median of many echoes, in microseconds.
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

// memory is that of the larger end, in MiB.
func memory(t *testing.T, v variant) float64 {
	t.Helper()
	if len(v.pids) == 0 {
		return math.NaN()
	}
	most := 0
	for _, pid := range v.pids {
		most = max(most, residentKiB(t, pid))
	}
	return float64(most) / 1024
}
