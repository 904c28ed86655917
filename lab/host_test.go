//go:build lab

package lab

import (
	"strings"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/lab/netlab"
)

// Strict reverse-path filters on both ends, and neighbor tables that forget: ARP is validated as well, against the route
// that leads to the TUN device.
func TestStrictReversePathFilter(t *testing.T) {
	t.Parallel()
	a, b, wire := netlab.New(t).Pair()
	for _, h := range []*netlab.Host{a, b} {
		h.Sysctl("net/ipv4/conf/all/rp_filter", "1")
		h.Sysctl("net/ipv4/conf/eth0/rp_filter", "1")
	}
	da, _ := a.Btns(""), b.Btns("")
	da.Wait(netlab.B4)
	da.Wait(netlab.B6)
	clear := wire.CaptureClear("b")
	for range 3 {
		for _, h := range []*netlab.Host{a, b} {
			h.IP("neigh", "flush", "all")
		}
		if n := a.Ping(netlab.B4, 5); n != 5 {
			t.Errorf("%d of 5 pings to b came back, from cold neighbor tables", n)
		}
		if n := b.Ping(netlab.A4, 5); n != 5 {
			t.Errorf("%d of 5 pings to a came back", n)
		}
		if n := a.Ping(netlab.B6, 5); n != 5 {
			t.Errorf("%d of 5 pings over IPv6 came back", n)
		}
	}
	clear.Stop()
	clear.NothingClear()
}

// One host behind a NAT: transport mode in UDP, checksums repaired (RFC 7296 §2.23.1, RFC 3948 §3.1.2).
func TestBehindNAT(t *testing.T) {
	t.Parallel()
	l := netlab.New(t)
	a, router, b := l.BehindNAT()
	b.Serve(":80", page)
	b.Start("iperf3", "iperf3", "-s")
	da, _ := a.Btns(""), b.Btns("")
	da.Wait(netlab.B4)
	clear := router.CaptureClear("eth1")
	if n := a.Ping(netlab.B4, 10); n != 10 {
		t.Errorf("%d of 10 pings came back", n)
	}
	fetch(t, a, "http://"+netlab.B4)
	a.RunFor(20*time.Second, "iperf3", "-c", netlab.B4, "-t1")
	a.RunFor(20*time.Second, "iperf3", "-c", netlab.B4, "-t1", "-u", "-b20M")
	clear.Stop()
	clear.NothingClear()
}

// Traffic of a container, masqueraded by its host, is protected like the host's own.
func TestMasqueradedContainer(t *testing.T) {
	t.Parallel()
	l := netlab.New(t)
	a, b, wire := l.Pair()
	c := l.Host("c")
	l.Link(c, "eth0", a, "ctr0")
	c.Addr("eth0", "10.99.0.2/24")
	a.Addr("ctr0", "10.99.0.1/24")
	c.IP("route", "add", "default", "via", "10.99.0.1")
	a.Masquerade("ctr0", "10.99.0.0/24")
	b.Serve(":80", page)
	fetch(t, c, "http://"+netlab.B4)

	da, _ := a.Btns(""), b.Btns("")
	da.Wait(netlab.B4)
	clear := wire.CaptureClear("b")
	fetch(t, c, "http://"+netlab.B4)
	if n := c.Ping(netlab.B4, 5); n != 5 {
		t.Errorf("%d of 5 pings from the container came back", n)
	}
	clear.Stop()
	clear.NothingClear()
}

// A firewall rule on the real interface applies to what comes out of ESP as it does to clear text (RFC 7619 §3.4,
// BTNS-CORE-24).
func TestFirewallOnTheRealInterface(t *testing.T) {
	t.Parallel()
	a, b, _ := netlab.New(t).Pair()
	b.NFT(`table inet fw { chain in { type filter hook input priority 0;
		iifname "eth0" tcp dport 8080 drop; }; }`)
	b.Serve(":8080", page)
	b.Serve(":80", page)
	closed := func(when string) {
		t.Helper()
		for _, to := range []string{netlab.B4, "[" + netlab.B6 + "]"} {
			if out, err := a.Try(10*time.Second, "curl", "-sS", "--max-time", "2", "--noproxy", "*", "http://"+to+":8080"); err == nil {
				t.Errorf("%s, the port that the firewall closes shows %q", when, out)
			}
		}
	}
	closed("without btns")
	fetch(t, a, "http://"+netlab.B4)
	da, _ := a.Btns(""), b.Btns("")
	da.Wait(netlab.B4)
	da.Wait(netlab.B6)
	closed("under ESP")
	fetch(t, a, "http://"+netlab.B4)
	fetch(t, a, "http://["+netlab.B6+"]")
}

// A path that takes less than the link: TCP does not stall, and large datagrams are answered with "too big".
func TestSmallPathMTU(t *testing.T) {
	t.Parallel()
	l := netlab.New(t)
	a, r, b := l.Host("a"), l.Host("r"), l.Host("b")
	l.Link(a, "eth0", r, "eth0")
	l.Link(b, "eth0", r, "eth1")
	for _, h := range []*netlab.Host{a, b} {
		net := map[string]string{"a": "1", "b": "2"}[h.Name]
		h.Addr("eth0", "192.0."+net+".2/24", "2001:db8:"+net+"::2/64")
		r.Addr("eth"+map[string]string{"a": "0", "b": "1"}[h.Name], "192.0."+net+".1/24", "2001:db8:"+net+"::1/64")
		h.IP("route", "add", "default", "via", "192.0."+net+".1")
		h.IP("-6", "route", "add", "default", "via", "2001:db8:"+net+"::1")
	}
	r.Sysctl("net/ipv4/ip_forward", "1")
	r.Sysctl("net/ipv6/conf/all/forwarding", "1")
	b.IP("link", "set", "eth0", "mtu", "1400")
	r.IP("link", "set", "eth1", "mtu", "1400")
	b.Start("iperf3", "iperf3", "-s")
	da, _ := a.Btns(""), b.Btns("")
	for _, to := range []string{"192.0.2.2", "2001:db8:2::2"} {
		da.Wait(to)
		for _, way := range []string{"-4", "-R"} {
			if way == "-4" && strings.Contains(to, ":") {
				way = "-6"
			}
			out := a.RunFor(30*time.Second, "iperf3", "-c", to, "-n", "5M", way)
			if strings.Contains(out, "error") {
				t.Errorf("TCP with %s: %s", to, out)
			}
		}
		if n := a.Ping(to, 4, "-s", "3000"); n < 3 { // in fragments; the first learns how small
			t.Errorf("%d of 4 large pings to %s came back", n, to)
		}
	}
}

// A host that is told on which of its addresses to speak IKE is protected there, and spoken to in clear elsewhere.
func TestListen(t *testing.T) {
	t.Parallel()
	a, b, _ := netlab.New(t).Pair()
	const other = "192.0.2.3"
	b.Addr(netlab.LinkName, other+"/24")
	da := a.Btns("")
	b.Btns(`listen = ["` + netlab.B4 + `", "` + netlab.B6 + `"]`)
	if out, err := da.Try("wait", other, "--timeout", "4s"); err == nil {
		t.Errorf("%s is protected:\n%s", other, out)
	}
	if n := a.Ping(other, 3); n != 3 {
		t.Errorf("%d of 3 pings to %s came back", n, other)
	}
	for _, addr := range []string{netlab.B4, netlab.B6} {
		da.Wait(addr)
		if n := a.Ping(addr, 3); n != 3 {
			t.Errorf("%d of 3 pings to %s came back", n, addr)
		}
	}
}

// What up needs and does not find, it names, with what to do; it changes nothing then.
func TestUpSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	l := netlab.New(t)
	h := l.Host("a")
	l.Link(h, "eth0", l.Host("b"), "eth0")
	h.Addr("eth0", netlab.A4+"/24")
	up := []string{netlab.Binary, "up", "--state", l.Path("state"), "--socket", l.Path("sock")}
	hidden := []string{"sh", "-c", `mount -t tmpfs none /dev/net && exec "$@"`, "sh"}
	nobody := []string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"}
	for _, tt := range []struct {
		name    string
		command []string
		busy    int
		says    []string
		code    int
	}{
		{name: "not root", command: append(nobody, up...), says: []string{"root"}, code: 1},
		{name: "no TUN device", command: append(hidden, up...), says: []string{"/dev/net/tun"}, code: 1},
		{name: "port 500 in use", command: up, busy: 500, says: []string{"500", "in use"}, code: 1},
		{name: "port 4500 in use", command: up, busy: 4500, says: []string{"4500", "in use"}, code: 1},
		{name: "unknown flag", command: append(up, "--colour"), says: []string{"--colour"}, code: 2},
		{name: "no such file", command: append(up, "--config", "/does/not/exist"), says: []string{"/does/not/exist"}, code: 2},
		{
			name: "unknown key", command: append(up, "--config", l.WriteFile("bad.toml", "colour = 1\n")),
			says: []string{"colour", "bad.toml"}, code: 2,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := h.Snapshot()
			if tt.busy != 0 {
				h.Occupy(t, tt.busy)
			}
			p := h.Start(strings.ReplaceAll("up "+tt.name, " ", "-"), tt.command...)
			if code := p.Wait(10 * time.Second); code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			for _, part := range tt.says {
				if !strings.Contains(p.Log(), part) {
					t.Errorf("it does not say %q, but:\n%s", part, p.Log())
				}
			}
			if after := h.Snapshot(); after != before {
				t.Errorf("it has changed the host. Before:\n%s\n\nAfter:\n%s", before, after)
			}
		})
	}
}
