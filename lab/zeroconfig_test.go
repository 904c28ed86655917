//go:build lab

package lab

import (
	"strings"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/lab/netlab"
)

const page = "the-text-that-nobody-shall-read"

// The main job: two hosts that share nothing, `btns up` on each; from then on nothing but IKE and ESP is on the link, in
// both families and whatever the protocol. Before, everything is there to read; a third host is reached as ever.
func TestTwoHostsWithoutConfiguration(t *testing.T) {
	t.Parallel()
	l := netlab.New(t)
	a, b, c := l.Host("a"), l.Host("b"), l.Host("c")
	wire := l.Switch("s", a, b, c)
	a.Addr("eth0", netlab.A4+"/24", netlab.A6+"/64")
	b.Addr("eth0", netlab.B4+"/24", netlab.B6+"/64")
	c.Addr("eth0", "192.0.2.3/24", "2001:db8::3/64")
	b.Serve(":80", page)
	c.Serve(":80", page)
	key := b.SSHServer()
	b.Start("iperf3", "iperf3", "-s")
	plain := a.RTT("192.0.2.3", 10)

	before := wire.Capture("a", "host "+netlab.A4+" and host "+netlab.B4)
	fetch(t, a, "http://"+netlab.B4)
	before.Stop()
	if !before.Shows(page) {
		t.Fatal("without btns, the page is not in the capture: it would prove nothing")
	}

	da, db := a.Btns(""), b.Btns("")
	da.Wait(netlab.B4)
	da.Wait(netlab.B6)

	clear := wire.CaptureClear("a")
	all := wire.Capture("a", "")
	fetch(t, a, "http://"+netlab.B4)
	fetch(t, a, "http://["+netlab.B6+"]")
	for _, to := range []string{netlab.B4, netlab.B6} {
		if n := a.Ping(to, 10); n != 10 {
			t.Errorf("%d of 10 pings to %s came back", n, to)
		}
		if out := a.SSH(key, to, "echo", "over-ssh"); !strings.Contains(out, "over-ssh") {
			t.Errorf("ssh to %s printed %q", to, out)
		}
	}
	if n := b.Ping(netlab.A4, 5); n != 5 {
		t.Errorf("%d of 5 pings from b came back", n)
	}
	all.Stop()
	for _, args := range [][]string{{"-t1"}, {"-t1", "-R"}, {"-t1", "-u", "-b50M"}, {"-t1", "-6"}} {
		to := netlab.B4
		if args[len(args)-1] == "-6" {
			to = netlab.B6
		}
		a.RunFor(20*time.Second, append([]string{"iperf3", "-c", to}, args...)...)
	}
	clear.Stop()
	clear.NothingClear()
	if all.Shows(page) {
		t.Error("the page is in the capture")
	}
	if n := len(all.Packets("udp port 4500 or esp")); n < 60 {
		t.Errorf("only %d ESP packets captured", n)
	}

	third := wire.Capture("a", "host 192.0.2.3 and not udp port 500 and not udp port 4500")
	if n := a.Ping("192.0.2.3", 20); n != 20 {
		t.Errorf("%d of 20 pings to the host without btns came back", n)
	}
	fetch(t, a, "http://192.0.2.3")
	third.Stop()
	if !third.Shows(page) {
		t.Error("what goes to the host without btns is not in clear")
	}
	if with := a.RTT("192.0.2.3", 10); with > plain+time.Millisecond {
		t.Errorf("a ping to the host without btns takes %v, %v without btns here", with, plain)
	}

	if pa, pb := da.Peer(netlab.B4), db.Peer(netlab.A4); pa.Name != db.Name() || pb.Name != da.Name() {
		t.Errorf("a knows b as %s (it is %s), b knows a as %s (it is %s)", pa.Name, db.Name(), pb.Name, da.Name())
	} else if pa.Assurance != "first-use" || pb.Assurance != "first-use" || pa.InBytes == 0 || pa.OutBytes == 0 {
		t.Errorf("a says of b %+v, b says of a %+v", pa, pb)
	}
}

// Traffic starts the protection by itself: nobody asked for it.
func TestTrafficRaisesProtection(t *testing.T) {
	t.Parallel()
	for _, to := range []string{netlab.B4, netlab.B6} {
		t.Run(to, func(t *testing.T) {
			t.Parallel()
			a, b, wire := netlab.New(t).Pair()
			da, _ := a.Btns(""), b.Btns("")
			if n := a.Ping(to, 20); n < 20 {
				t.Errorf("%d of 20 pings came back while protection came up", n)
			}
			netlab.Until(t, 10*time.Second, "protected", func() error {
				_, err := da.Try("wait", to, "--timeout", "1s")
				return err
			})
			clear := wire.CaptureClear("b")
			if n := a.Ping(to, 5); n != 5 {
				t.Errorf("%d of 5 pings came back", n)
			}
			clear.Stop()
			clear.NothingClear()
		})
	}
}

func fetch(t *testing.T, h *netlab.Host, url string) {
	t.Helper()
	if out := h.Run("curl", "-sS", "--max-time", "8", "--noproxy", "*", url); out != page {
		t.Errorf("%s shows %q", url, out)
	}
}
