//go:build bench

package bench

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/lab/netlab"
)

// The crowd's addresses: each handshake has one of its own (RFC 2544 §C.2.2).
const (
	firstPeer = "198.18.0.1"
	crowd     = "198.18.0.0/15"
)

// done and echoed are the lines of lab/bench/load.
type (
	done struct {
		Done    int     `json:"done"`
		Failed  int     `json:"failed"`
		Seconds float64 `json:"seconds"`
		CPU     float64 `json:"cpu"`
		Repeats int     `json:"repeats"`
	}
	echoed struct {
		Sent   int `json:"sent"`
		Echoed int `json:"echoed"`
	}
)

// load is a crowd of peers on one host that makes SAs with the daemon on another, each process on a core of its own.
type load struct {
	t      *testing.T
	daemon *netlab.Btns
	crowd  *netlab.Process
	lines  int // read of the crowd's log
}

func buildLoad(t *testing.T, l *netlab.Lab) string {
	t.Helper()
	bin := l.Path("load")
	build := exec.Command("go", "build", "-tags", "bench", "-o", bin, "./lab/bench/load")
	build.Dir = netlab.Root()
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return bin
}

// newLoad starts the daemon as it is shipped, and a crowd that waits for its sign.
func newLoad(t *testing.T, peers, inFlight int, hybrid bool) *load {
	t.Helper()
	l := netlab.New(t)
	bin := buildLoad(t, l)
	a, b := l.Direct()
	a.IP("route", "add", "local", crowd, "dev", "lo")
	b.IP("route", "add", crowd, "via", netlab.A4)
	t.Setenv("GOMAXPROCS", "1")
	s := &load{t: t, daemon: b.Btns("")}
	pin(t, s.daemon.PID(), 0)
	s.crowd = a.Start("load", bin, "-to", netlab.B4, "-first", firstPeer, "-peers", strconv.Itoa(peers),
		"-in-flight", strconv.Itoa(inFlight), fmt.Sprintf("-hybrid=%v", hybrid))
	netlab.Until(t, time.Minute, "the crowd has its keys", func() error { return netlab.Contains(s.crowd.Log(), "ready") })
	pin(t, s.crowd.PID(), 1)
	s.lines = 1
	return s
}

// pin keeps all threads of a process on one core, the last one where there are fewer.
func pin(t *testing.T, pid, core int) {
	t.Helper()
	out, err := exec.Command("nproc").Output()
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("taskset", "-a", "-c", "-p", strconv.Itoa(min(core, n-1)), strconv.Itoa(pid)).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// line waits for the crowd's next line and reads it.
func (s *load) line(timeout time.Duration, what string, into any) {
	s.t.Helper()
	netlab.Until(s.t, timeout, what, func() error {
		if !s.crowd.Running() {
			s.t.Fatalf("the crowd has ended:\n%s", s.crowd.Log())
		}
		all := strings.Split(s.crowd.Log(), "\n")
		if len(all) < s.lines+2 {
			return fmt.Errorf("%d lines", len(all)-1)
		}
		return json.Unmarshal([]byte(all[s.lines]), into)
	})
	s.lines++
}

// handshakes has the crowd make all its SAs.
func (s *load) handshakes() done {
	s.t.Helper()
	s.crowd.Signal(syscall.SIGUSR1)
	var d done
	s.line(5*time.Minute, "handshakes", &d)
	if d.Done == 0 {
		s.t.Fatalf("no handshake succeeds: %+v\n%s", d, s.daemon.Log())
	}
	return d
}

// echo sends a packet each way on every SA.
func (s *load) echo() echoed {
	s.t.Helper()
	s.crowd.Signal(syscall.SIGUSR1)
	var e echoed
	s.line(time.Minute, "echoes", &e)
	return e
}

// cpuTime is the CPU time that a process has used, in user mode and in the kernel.
func cpuTime(t *testing.T, pid int) float64 {
	t.Helper()
	stat := netlab.ReadFile(t, fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, ok := strings.Cut(stat, ") ")
	f := strings.Fields(rest)
	if !ok || len(f) < 13 {
		t.Fatalf("/proc/%d/stat says %q", pid, stat)
	}
	const ticks = 100 // USER_HZ
	var sum float64
	for _, text := range f[11:13] { // utime, stime
		n, err := strconv.ParseFloat(text, 64)
		if err != nil {
			t.Fatal(err)
		}
		sum += n / ticks
	}
	return sum
}
