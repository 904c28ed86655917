package sim

import (
	"net/netip"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/dataplane/flow"
	"github.com/btns-ipsec/btns/selector"
)

// flows sends packets between a and b, which a knows under an address, until d is over, and says how many came each way,
// protected.
func flows(w *World, d time.Duration, a, b *Node, known netip.Addr) (toB, toA int) {
	before := [2]int{b.tally(a.Addr).Protected, a.tally(known).Protected}
	for end := w.now.Add(d); w.now.Before(end); w.Run(500 * time.Millisecond) {
		b.Send(a)
		a.transmit(packet(a.Addr, known))
	}
	w.Run(100 * time.Millisecond)
	return b.tally(a.Addr).Protected - before[0], a.tally(known).Protected - before[1]
}

// The address of a host behind a NAT changes under traffic. What is connected goes on under the address that it is known
// by; the new one is protected from the move on, and is what the host is known by after the next rekey, whoever begins it.
// Then the old one is nobody's (RFC 7296 §2.23).
func TestNATChangesItsAddress(t *testing.T) {
	first, second := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	for name, rekey := range map[string]func(a, b *Node){
		"the peer rekeys":    func(_, b *Node) { b.spend() },
		"this host rekeys":   func(a, _ *Node) { a.spend() },
		"both rekey at once": func(a, b *Node) { a.spend(); b.spend() },
	} {
		t.Run(name, func(t *testing.T) {
			w := New(t, 9)
			a, b := w.Host("a"), w.at("b", "10.0.0.2")
			w.Translate(b, first)
			w.After(0, func() { b.Send(a) })
			w.RunUntil(time.Minute, "b protected", func() bool { return b.Protected(a) })
			if toB, toA := flows(w, 5*time.Second, a, b, first); toB < 8 || toA < 8 {
				w.Fail("behind its NAT b got %d packets, and a got %d of it", toB, toA)
			}
			w.Translate(b, second)
			if toB, toA := flows(w, 10*time.Second, a, b, first); toB < 18 || toA < 19 {
				w.Fail("after the move b got %d packets, and a got %d of it", toB, toA)
			}
			if s, _, _ := a.table.State(second); s == flow.Clear {
				w.Fail("the new address is not protected")
			}
			rekey(a, b)
			w.Run(5 * time.Second)
			if toB, toA := flows(w, 10*time.Second, a, b, second); toB < 19 || toA < 19 {
				w.Fail("after the rekey b got %d packets, and a got %d of it", toB, toA)
			}
			if s, _, _ := a.table.State(first); s != flow.Clear {
				w.Fail("the old address is in state %v", s)
			}
			if c := *count(a.Sent, second); c.Clear != 0 {
				w.Fail("%d packets to the new address left in clear", c.Clear)
			}
			for _, v := range a.host.Peers(w.now) {
				if v.Addr != second || len(v.Children) != 1 || v.Children[0].Remote != second.String()+"/32" {
					w.Fail("a has %+v", v)
				}
			}
			other := w.at("other", first.String())
			w.After(0, func() { a.Send(other) })
			w.RunUntil(time.Minute, "who has the old address now is protected", func() bool { return a.Protected(other) && other.Protected(a) })
			w.CheckWorks(a, other)
			if toB, _ := flows(w, 2*time.Second, a, b, second); toB < 4 {
				w.Fail("b got %d packets", toB)
			}
		})
	}
}

// Whoever comes at an address that a peer has left gets it, and what is held for the one that left is not let out.
func TestNATAddressIsTakenOver(t *testing.T) {
	first, second := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	w := New(t, 10)
	a, b := w.Host("a"), w.at("b", "10.0.0.2")
	w.Translate(b, first)
	w.After(0, func() { b.Send(a) })
	w.RunUntil(time.Minute, "b protected", func() bool { return b.Protected(a) })
	flows(w, 5*time.Second, a, b, first)
	w.Translate(b, second)
	flows(w, 5*time.Second, a, b, first)
	other := w.at("other", first.String())
	w.After(0, func() { other.Send(a) })
	w.RunUntil(time.Minute, "the other one protected", func() bool { return other.Protected(a) && a.Protected(other) })
	chatter(w, 5*time.Second, a, other)
	w.CheckWorks(a, other)
	if toB, _ := flows(w, 5*time.Second, a, b, second); toB < 8 {
		w.Fail("b got %d packets at its new address", toB)
	}
	b.Shutdown()
	w.Run(5 * time.Second)
	if v := a.table.Out(&selector.Flow{Proto: appProto, Local: a.Addr, Remote: first}); v.Action != flow.Seal {
		w.Fail("when the one that left has gone, packets to the other one are not protected: %v", v.Action)
	}
	w.CheckWorks(a, other)
}
