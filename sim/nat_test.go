package sim

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/dataplane"
	"github.com/btns-ipsec/btns/dataplane/flow"
	"github.com/btns-ipsec/btns/host"
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

// The address of a host behind a NAT changes under traffic. What is connected goes on under the address that it is known by,
// after a rekey too, whoever begins it. The new address is nobody's, until a new session says whose it is (RFC 7296 §2.23).
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
			rekey(a, b)
			w.Run(5 * time.Second)
			if toB, toA := flows(w, 10*time.Second, a, b, first); toB < 19 || toA < 19 {
				w.Fail("after the rekey b got %d packets, and a got %d of it", toB, toA)
			}
			if s, _, _ := a.table.State(second); s != flow.Clear {
				w.Fail("the new address is in state %v", s)
			}
			for _, v := range a.host.Peers(w.now) {
				if v.Addr != first || len(v.Children) != 1 || v.Children[0].Remote != first.String()+"/32" {
					w.Fail("a has %+v", v)
				}
			}
			b.Kill()
			b.Boot()
			w.After(0, func() { b.Send(a) })
			w.RunUntil(time.Minute, "b protected again", func() bool { return b.Protected(a) })
			if toB, toA := flows(w, 5*time.Second, a, b, second); toB < 8 || toA < 8 {
				w.Fail("in a new session b got %d packets, and a got %d of it", toB, toA)
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
	b.Shutdown()
	w.Run(5 * time.Second)
	if v := a.table.Out(&selector.Flow{Proto: appProto, Local: a.Addr, Remote: first}); v.Action != flow.Seal {
		w.Fail("when the one that left has gone, packets to the other one are not protected: %v", v.Action)
	}
	w.CheckWorks(a, other)
}

// forging has what n sends meanwhile come from an address that is not its NAT's.
func (w *World) forging(n *Node, source netip.Addr, f func()) {
	own := w.nat[n]
	w.nat[n] = source
	f()
	w.nat[n] = own
}

// A stranger behind a NAT sends authentic packets with another's source address. That makes it nobody but who it is: what the
// host knows of the victim, has with it, and does with its packets stays, however the stranger's children are rekeyed.
func TestNATForgedMove(t *testing.T) {
	home, at := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("198.51.100.7")
	type scene struct {
		w       *World
		a, m, v *Node // v is nil when nobody speaks IKE there
	}
	for name, victim := range map[string]func(s *scene){
		"BTNS-TRUST-21 the victim is recorded and protected": func(s *scene) {
			s.a, s.v = s.w.Host("a"), s.w.at("v", at.String())
			s.w.After(0, func() { s.a.Send(s.v) })
			s.w.RunUntil(time.Minute, "v protected", func() bool { return s.a.Protected(s.v) && s.v.Protected(s.a) })
			chatter(s.w, 5*time.Second, s.a, s.v)
		},
		"the victim is unknown": func(s *scene) { s.a = s.w.Host("a") },
		"BTNS-CORE-11 the victim is configured, and not there": func(s *scene) {
			s.a = s.w.Host("a", func(c *host.Config) {
				c.Peers = []host.Peer{{Name: "v", Remote: at, Start: host.StartListen}}
			})
		},
	} {
		for by, rekey := range map[string]func(s *scene){
			"it rekeys": func(s *scene) { s.w.forging(s.m, at, s.m.spend) },
			"this host rekeys": func(s *scene) {
				s.a.step(host.FromPlane{Event: dataplane.Spent{ID: s.w.pairTo(s.a, home)}})
			},
		} {
			t.Run(name+", "+by, func(t *testing.T) {
				w := New(t, 11)
				s := &scene{w: w}
				victim(s)
				a := s.a
				s.m = w.at("m", "10.0.0.2")
				w.Translate(s.m, home)
				w.After(0, func() { s.m.Send(a) })
				w.RunUntil(time.Minute, "m protected", func() bool { return s.m.Protected(a) })
				flows(w, 5*time.Second, a, s.m, home)
				before, pair := w.around(a, at), w.pairTo(a, home)
				for range 5 {
					w.forging(s.m, at, func() { s.m.Send(a) })
					w.Run(100 * time.Millisecond)
					if !w.sentTo(a, home, at) {
						w.Fail("the forged packet has moved nothing")
					}
					if got := w.around(a, at); got != before {
						w.Fail("the victim was\n%s, and after the move is\n%s", before, got)
					}
					rekey(s)
					w.Run(100 * time.Millisecond)
					w.forging(s.m, at, func() { s.m.Send(a) })
					w.Run(100 * time.Millisecond)
					s.m.Send(a) // and takes the answers
					w.Run(10 * time.Second)
					if got := w.around(a, at); got != before {
						w.Fail("the victim was\n%s, and after the rekey is\n%s", before, got)
					}
				}
				if w.pairTo(a, home) < pair+5 {
					w.Fail("not everything was rekeyed")
				}
				if toM, toA := flows(w, 5*time.Second, a, s.m, home); toM < 8 || toA < 8 {
					w.Fail("the stranger itself got %d packets, and a %d of it", toM, toA)
				}
				if s.v != nil {
					w.CheckWorks(a, s.v)
				}
			})
		}
	}
}

// pairTo is the SA that packets of n to an address go under.
func (w *World) pairTo(n *Node, a netip.Addr) flow.PairID {
	v := n.table.Out(&selector.Flow{Proto: appProto, Local: n.Addr, Remote: a})
	if v.Action != flow.Seal {
		w.Fail("%s has no SA for %v", n.Name, a)
	}
	return v.Pair.ID
}

// sentTo reports whether packets to one address are sent, sealed, to another one.
func (w *World) sentTo(n *Node, inner, outer netip.Addr) bool {
	v := n.table.Out(&selector.Flow{Proto: appProto, Local: n.Addr, Remote: inner})
	return v.Action == flow.Seal && v.Pair.OuterRemote.Addr() == outer
}

// around is what n makes of an address and of packets to it.
func (w *World) around(n *Node, a netip.Addr) string {
	state, _, _ := n.table.State(a)
	v := n.table.Out(&selector.Flow{Proto: appProto, Local: n.Addr, Remote: a})
	out := fmt.Sprintf("prefix %v, packets %v", state, v.Action)
	if v.Pair != nil {
		out += fmt.Sprintf(" under SA %d to %v", v.Pair.ID, v.Pair.OuterRemote)
	}
	for _, p := range n.host.Peers(w.now) {
		for _, c := range p.Children {
			if p.Addr == a || strings.HasPrefix(c.Remote, a.String()+"/") {
				out += fmt.Sprintf("\n%v: %v with %v: %v", p.Addr, p.State, p.Key, c.Remote)
			}
		}
		if p.Addr == a {
			out += fmt.Sprintf("\n%v: %v", p.Addr, p.State)
		}
	}
	return out
}
