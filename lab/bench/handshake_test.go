//go:build bench

package bench

import (
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/mlkem"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Handshakes a second: IKE_SA_INIT, with ML-KEM-768 also IKE_INTERMEDIATE, and IKE_AUTH with a child SA, Ed25519 both
// ways (performance.md §7). The daemon is the responder, with its default policy; daemon and crowd have a core each. What
// the CPU says is what a side could do if it were not for the other one.
func TestHandshakes(t *testing.T) {
	for _, c := range []struct {
		name     string
		hybrid   bool
		inFlight int
		must     float64
	}{
		{"X25519", false, 64, 3500},
		{"X25519 with ML-KEM-768", true, 64, 1800},
		// More half-open SAs than the daemon has without asking for cookies: one more round trip for each.
		{"X25519, with cookies", false, 512, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			rate(t, newLoad(t, handshakes(t), c.inFlight, c.hybrid), c.must, c.hybrid)
		})
	}
}

func rate(t *testing.T, s *load, must float64, hybrid bool) {
	t.Helper()
	least := publicKeyWork(t, hybrid)
	before := cpuTime(t, s.daemon.PID())
	d := s.handshakes()
	// What follows from the SAs by itself is part of their price: the end of the transition, the first look at counters.
	time.Sleep(4 * time.Second)
	used := cpuTime(t, s.daemon.PID()) - before
	n := float64(d.Done)
	t.Logf("%.0f handshakes/s with a core for each side; %d done, %d failed, %d datagrams more than needed", n/d.Seconds, d.Done, d.Failed, d.Repeats)
	figure(t, "responder, of its CPU time", n/used, "handshakes/s/core", must)
	t.Logf("CPU time for each: %.0f us as responder, %.0f us as initiator (lab/bench/load, without plane)", used/n*1e6, d.CPU/n*1e6)
	least = min(least, publicKeyWork(t, hybrid))
	t.Logf("the public-key work of a responder takes %.0f us here and now: one handshake is %.2f of that", least*1e6, used/n/least)
}

// publicKeyWork is the CPU time, in seconds, of what no responder can do without: the least of some rounds, for what else
// runs on the machine slows it, too.
func publicKeyWork(t *testing.T, hybrid bool) float64 {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	verifier, signer, err := ed25519.GenerateKey(rand.Reader)
	other, e := ecdh.X25519().GenerateKey(rand.Reader)
	decapsulator, e2 := mlkem.GenerateKey768()
	if err = errors.Join(err, e, e2); err != nil {
		t.Fatal(err)
	}
	message := make([]byte, 600)
	least := math.Inf(1)
	for range 10 {
		const times = 100
		before := threadTime(t)
		for range times {
			own, err := ecdh.X25519().GenerateKey(rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			if _, err = own.ECDH(other.PublicKey()); err != nil {
				t.Fatal(err)
			}
			if hybrid {
				k, err := mlkem.NewEncapsulationKey768(decapsulator.EncapsulationKey().Bytes())
				if err != nil {
					t.Fatal(err)
				}
				k.Encapsulate()
			}
			if !ed25519.Verify(verifier, message, ed25519.Sign(signer, message)) {
				t.Fatal("a good signature is bad")
			}
		}
		least = min(least, (threadTime(t)-before)/times)
	}
	return least
}

// threadTime is the CPU time of the calling thread in seconds.
func threadTime(t *testing.T) float64 {
	t.Helper()
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &now); err != nil {
		t.Fatal(err)
	}
	return float64(now.Nano()) / 1e9
}

// figure prints a figure beside what it must reach, atMost one that must not be more; 0 is nothing to reach.
func figure(t *testing.T, name string, got float64, unit string, must float64) {
	t.Helper()
	tell(t, name, got, unit, "must", must, got >= must)
}

func atMost(t *testing.T, name string, got float64, unit string, must float64) {
	t.Helper()
	tell(t, name, got, unit, "must be at most", must, got <= must)
}

func tell(t *testing.T, name string, got float64, unit, demand string, must float64, good bool) {
	t.Helper()
	line := fmt.Sprintf("%-32s %9.2f %s", name, got, unit)
	if must != 0 {
		line += fmt.Sprintf("  | %s %v: %s", demand, must, map[bool]string{true: "reached", false: "missed"}[good])
	}
	t.Log(line)
}

// handshakes is how many are made.
func handshakes(t *testing.T) int {
	n, err := strconv.Atoi(os.Getenv("BENCH_HANDSHAKES"))
	if os.Getenv("BENCH_HANDSHAKES") == "" {
		return 10000
	}
	if err != nil {
		t.Fatal(err)
	}
	return n
}
