//go:build lab

package lab

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/lab/netlab"
)

// A daemon without a single packet in clear to those it remembers, and without harm to those it does not know: the third
// host is reached as ever, the second is protected; when its IKE is blocked, nothing leaves in clear, `explain` and
// `status` say why, and it recovers by itself when IKE passes again. Forgetting it ends the outage the other way.
func TestRememberedMeansRequired(t *testing.T) {
	t.Parallel()
	const c4 = "192.0.2.3"
	l := netlab.New(t)
	a, b, c := l.Host("a"), l.Host("b"), l.Host("c")
	wire := l.Switch("s", a, b, c)
	a.Addr("eth0", netlab.A4+"/24")
	b.Addr("eth0", netlab.B4+"/24")
	c.Addr("eth0", c4+"/24")
	c.Serve(":80", page)
	plain := a.RTT(c4, 20)

	da, db := a.Btns(""), b.Btns("")
	untouched(t, a, wire, c4, plain)
	if x := explain(t, da, c4); x.Reason != "port-closed" || x.State != "clear" || x.Hint == "" {
		t.Errorf("of the host without btns: %+v", x)
	}

	da.Wait(netlab.B4)
	if n := a.Ping(netlab.B4, 5); n != 5 {
		t.Fatalf("%d of 5 pings came back", n)
	}
	netlab.Until(t, 10*time.Second, "a remembers b", func() error {
		return netlab.Contains(da.Run("trust", "list"), db.Name())
	})

	clear := wire.CaptureClear("a")
	wire.NFT(`table bridge block { chain f { type filter hook forward priority 0;
		ip saddr ` + netlab.B4 + ` udp sport { 500, 4500 } drop;
		ip daddr ` + netlab.B4 + ` udp dport { 500, 4500 } drop;
		ip protocol esp drop; }; }`)
	a.Start("ping", "ping", "-n", "-q", "-i0.2", netlab.B4)
	netlab.Until(t, 3*time.Minute, "explain names the outage", func() error {
		x := explain(t, da, netlab.B4)
		if x.State != "outage" || x.Reason != "no-answer" || !strings.Contains(x.Hint, "btns trust forget "+netlab.B4) {
			return fmt.Errorf("%+v", x)
		}
		return nil
	})
	if out := da.Run("status"); !strings.Contains(out, netlab.B4) || !strings.Contains(out, "no-answer") {
		t.Errorf("status does not name the outage:\n%s", out)
	}
	if out, err := da.Try("wait", netlab.B4, "--timeout", "2s"); err == nil || !strings.Contains(out, "outage") {
		t.Errorf("wait says %v:\n%s", err, out)
	}
	t.Logf("explain says:\n%s", da.Run("explain", netlab.B4))
	nothing := func() {
		t.Helper()
		clear.Stop()
		if p := clear.Packets("host " + netlab.A4 + " and host " + netlab.B4 + " and not (" + netlab.Protected + ")"); len(p) > 0 {
			t.Errorf("%d packets in clear to or from a remembered peer, the first of them:\n%s", len(p), strings.Join(p[:min(len(p), 20)], "\n"))
		}
	}
	nothing()
	da.Crash() // across a restart; what a clean stop means is another test
	da.Restart()
	clear = wire.CaptureClear("a")
	if err := a.Reaches(netlab.B4); err == nil {
		t.Error("after a restart a reaches a peer whose IKE is blocked")
	}
	wire.Run("nft", "delete", "table", "bridge", "block")
	blocked := time.Now()
	netlab.Until(t, 3*time.Minute, "traffic recovers by itself", func() error { return a.Reaches(netlab.B4) })
	t.Logf("recovered %v after IKE passed again", time.Since(blocked).Round(time.Millisecond))
	nothing()

	wire.NFT(`table bridge block { chain f { type filter hook forward priority 0; udp dport { 500, 4500 } drop; ip protocol esp drop; }; }`)
	db.Stop() // its farewell does not get through
	if err := a.Reaches(netlab.B4); err == nil {
		t.Error("a reaches in clear what it remembers")
	}
	da.Run("trust", "forget", netlab.B4)
	da.Run("down", netlab.B4)
	netlab.Until(t, 2*time.Minute, "forgetting ends it", func() error { return a.Reaches(netlab.B4) })
}

// untouched checks that a host without btns is spoken to in clear, and as fast as ever.
func untouched(t *testing.T, a, wire *netlab.Host, c4 string, plain time.Duration) {
	t.Helper()
	third := wire.Capture("a", "host "+c4+" and not udp port 500")
	if n := a.Ping(c4, 20); n != 20 {
		t.Errorf("%d of 20 pings to the host without btns came back", n)
	}
	fetch(t, a, "http://"+c4)
	third.Stop()
	if !third.Shows(page) || len(third.Packets("icmp[0] == 8 or icmp[0] == 0")) != 40 {
		t.Error("what goes to the host without btns is not what it was")
	}
	if with := a.RTT(c4, 20); with > plain+time.Millisecond {
		t.Errorf("a ping to the host without btns takes %v, %v without btns here", with, plain)
	}
}

// sweepScript sends to so many addresses and counts who answers; echoScript answers for all of them.
const (
	sweepScript = `
import socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
s.settimeout(0)
back = set()
def take():
    try:
        while True: back.add(s.recvfrom(64)[1][0])
    except BlockingIOError: pass
n = int(sys.argv[1]); began = time.time()
for i in range(n):
    s.sendto(b"x", ("10.9.%d.%d" % (i // 250, 1 + i % 250), 7))
    if i % 50 == 0: take(); time.sleep(0.002)
took = time.time() - began
end = time.time() + 3
while time.time() < end and len(back) < n: take(); time.sleep(0.01)
print(len(back), "of", n, "in", round(took, 2), "s")
`
	echoScript = `
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IP, 8, 1) # IP_PKTINFO: answer from the address that was asked
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
s.bind(("0.0.0.0", 7))
while True:
    data, anc, _, to = s.recvmsg(64, 256)
    s.sendmsg([data], [(l, t, b"\0\0\0\0" + d[4:8] + b"\0\0\0\0") for l, t, d in anc if t == 8], 0, to)
`
)

// 10,000 hosts without btns contacted at once: probes stay few and small, memory bounded, and the traffic unharmed.
func TestTenThousandStrangers(t *testing.T) {
	const many = 10_000
	l := netlab.New(t)
	a, b := l.Host("a"), l.Host("b")
	wire := l.Switch("s", a, b)
	a.Addr("eth0", netlab.A4+"/24")
	b.Addr("eth0", netlab.B4+"/24")
	b.IP("route", "add", "local", "10.9.0.0/16", "dev", "lo") // whatever comes there is b's
	a.IP("route", "add", "10.9.0.0/16", "via", netlab.B4)
	b.Sysctl("net/ipv4/icmp_ratelimit", "0")
	sweep := l.WriteFile("sweep.py", sweepScript)
	b.Start("echo", "python3", l.WriteFile("echo.py", echoScript))
	netlab.Until(t, 10*time.Second, "the far side answers", func() error {
		out, err := a.Try(20*time.Second, "python3", sweep, "10")
		if err != nil {
			return err
		}
		return netlab.Contains(out, "10 of 10")
	})
	without := a.RunFor(60*time.Second, "python3", sweep, strconv.Itoa(many))

	da := a.Btns("")
	before := rss(t, da.PID())
	all := wire.Capture("a", "udp port 500")
	began := time.Now()
	with := a.RunFor(60*time.Second, "python3", sweep, strconv.Itoa(many))
	if !strings.HasPrefix(with, strconv.Itoa(many)+" of") {
		t.Errorf("clear traffic is harmed: %s (without btns: %s)", with, without)
	}
	for time.Since(began) < 40*time.Second { // ever new packets to all of them
		a.RunFor(60*time.Second, "python3", sweep, strconv.Itoa(many))
	}
	took := time.Since(began)
	all.Stop()
	after := rss(t, da.PID())

	what := politeness(t, all, took)
	t.Logf("%d destinations, %v: %s; RSS %d -> %d KiB; sweeps: without btns %s, with %s; %s",
		many, took.Round(time.Second), what, before, after, strings.TrimSpace(without), strings.TrimSpace(with), probesLine(da))
	if after-before > 64<<10 {
		t.Errorf("the daemon grew from %d to %d KiB", before, after)
	}
}

// politeness looks at the probes of a capture: few new addresses a second, few and small datagrams to each.
func politeness(t *testing.T, all *netlab.Capture, took time.Duration) string {
	t.Helper()
	probes := all.Packets("src host " + netlab.A4)
	seen, perSecond := map[string]int{}, map[string]map[string]bool{}
	for _, line := range probes {
		f := strings.Fields(line) // 12:00:00.000000 IP 192.0.2.1.500 > 10.9.0.1.500: isakmp: ...
		if len(f) < 5 {
			continue
		}
		seen[f[4]]++
		second, _, _ := strings.Cut(f[0], ".")
		if perSecond[second] == nil {
			perSecond[second] = map[string]bool{}
		}
		if seen[f[4]] == 1 {
			perSecond[second][f[4]] = true
		}
	}
	busiest, most, large := 0, 0, all.Packets("src host "+netlab.A4+" and greater 615") // with the header of Ethernet
	for _, s := range perSecond {
		busiest = max(busiest, len(s))
	}
	for _, n := range seen {
		most = max(most, n)
	}
	if len(large) > 0 {
		t.Errorf("%d probes larger than 600 octets, such as %s", len(large), large[0])
	}
	if len(seen) == 0 || float64(len(seen)) > 20*took.Seconds()+20 || busiest > 41 || most > 3 {
		t.Errorf("%d addresses probed in %v, %d in the busiest second, %d datagrams to one", len(seen), took, busiest, most)
	}
	return fmt.Sprintf("%d probes to %d addresses (%.1f new ones a second, %d in the busiest, at most %d each)",
		len(probes), len(seen), float64(len(seen))/took.Seconds(), busiest, most)
}

func probesLine(b *netlab.Btns) string {
	for line := range strings.Lines(b.Run("status")) {
		if strings.HasPrefix(line, "probes") {
			return strings.Join(strings.Fields(line), " ")
		}
	}
	return ""
}

// rss is the resident memory of a process in KiB.
func rss(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "VmRSS:" {
			n, err := strconv.Atoi(f[1])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatal("no VmRSS")
	return 0
}

type explained struct {
	State  string `json:"state"`
	Reason string `json:"reason"`
	Why    string `json:"why"`
	Hint   string `json:"hint"`
	Steps  []struct{ Step, Text string }
}

func explain(t *testing.T, b *netlab.Btns, host string) (x explained) {
	t.Helper()
	if err := json.Unmarshal([]byte(b.Run("explain", "--json", host)), &x); err != nil {
		t.Fatal(err)
	}
	return x
}
