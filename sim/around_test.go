package sim

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/dataplane/flow"
	"github.com/btns-ipsec/btns/host"
	"github.com/btns-ipsec/btns/probe"
)

// replace puts another machine, with another key, at the address of n.
func (w *World) replace(n *Node) *Node {
	n.Kill()
	other := w.Host("other")
	delete(w.byAddr, other.Addr)
	other.Addr = n.Addr
	w.byAddr[n.Addr] = other
	return other
}

// A gateway whose key has changed is spoken to in clear, with an alarm: without it there is no network (design.md: sticky
// without lock-out). The same key change at any other address stops the traffic: TestImpostor.
func TestGatewayIsNotLockedOut(t *testing.T) {
	for name, restart := range map[string]bool{"while up": false, "over a restart": true} {
		t.Run(name, func(t *testing.T) {
			w := New(t, 7)
			b := w.Host("b")
			a := w.Host("a", func(c *host.Config) { c.Around.Essential = []netip.Addr{b.Addr} })
			w.After(0, func() { a.Send(b) })
			w.RunUntil(time.Minute, "both protected", func() bool { return a.Protected(b) && b.Protected(a) })
			chatter(w, 5*time.Second, a, b)
			other := w.replace(b)
			if restart {
				a.Kill()
				a.Boot()
			}
			for range 600 {
				a.Send(other)
				w.Run(time.Second)
			}
			if a.Reports[host.KeyChanged] == 0 {
				w.Fail("the changed key was not reported")
			}
			if s, _, _ := a.table.State(other.Addr); s != flow.Clear {
				w.Fail("the gateway's prefix is in state %v", s)
			}
			if tally := other.tally(a.Addr); tally.Clear == 0 || tally.Protected > 0 {
				w.Fail("the gateway received %+v", *tally)
			}
			if story := strings.Join(a.host.Explain(w.now, other.Addr, 0).Story(), "; "); !strings.Contains(story, "gateway") {
				w.Fail("explained as %s", story)
			}
		})
	}
}

// What becomes essential while it is closed is opened, with a warning; what no longer is, is closed again.
func TestBecomesEssential(t *testing.T) {
	w := New(t, 7)
	a, b := meet(w)
	b.Kill()
	a.Kill()
	a.Boot()
	state := func() flow.State { s, _, _ := a.table.State(b.Addr); return s }
	if state() != flow.Hold {
		w.Fail("a recorded peer is in state %v", state())
	}
	for _, step := range []struct {
		around host.Surroundings
		want   flow.State
		warned int
	}{
		{host.Surroundings{Essential: []netip.Addr{b.Addr}}, flow.Clear, 1},
		{host.Surroundings{Essential: []netip.Addr{b.Addr}, Network: "same"}, flow.Clear, 1},
		{host.Surroundings{}, flow.Hold, 1},
	} {
		a.step(step.around)
		if state() != step.want || a.Reports[host.NetworkChanged] != step.warned {
			w.Fail("%+v: state %v, %d warnings", step.around, state(), a.Reports[host.NetworkChanged])
		}
	}
}

// The record of a private address counts in the network where it was made, and only there (design.md).
func TestOtherNetwork(t *testing.T) {
	w := New(t, 3)
	home := host.Surroundings{Network: "192.168.2.0/24 via 192.168.2.1"}
	a := w.Host("a", func(c *host.Config) { c.Around = home })
	b := w.Host("b")
	for n, addr := range map[*Node]string{a: "192.168.2.8", b: "192.168.2.9"} {
		delete(w.byAddr, n.Addr)
		n.Addr = netip.MustParseAddr(addr)
		w.byAddr[n.Addr] = n
	}
	w.After(0, func() { a.Send(b) })
	w.RunUntil(time.Minute, "both protected", func() bool { return a.Protected(b) && b.Protected(a) })
	chatter(w, 5*time.Second, a, b)
	a.Kill()
	a.Boot()
	for _, step := range []struct {
		around host.Surroundings
		want   flow.State
	}{
		{home, flow.Hold},
		{host.Surroundings{Network: "192.168.2.0/24 via 192.168.2.254"}, flow.Clear},
		{home, flow.Hold},
	} {
		a.step(step.around)
		if s, _, _ := a.table.State(b.Addr); s != step.want {
			w.Fail("in %q the peer is in state %v, want %v", step.around.Network, s, step.want)
		}
	}
}

// With probe = "local" the hosts of attached networks are tried, and no others.
func TestProbeLocal(t *testing.T) {
	w := New(t, 1)
	local := func(c *host.Config) { c.Probe.Scope.Mode = probe.Local }
	a, b := w.Host("a", local), w.Host("b")
	for _, step := range []struct {
		attached string
		want     bool
	}{{"198.51.100.0/24", false}, {"203.0.113.0/24", true}} {
		a.step(host.Surroundings{Attached: []netip.Prefix{netip.MustParsePrefix(step.attached)}})
		for range 5 {
			a.Send(b)
			w.Run(time.Second)
		}
		if a.Protected(b) != step.want {
			w.Fail("attached to %s: protected is %v", step.attached, a.Protected(b))
		}
	}
}
