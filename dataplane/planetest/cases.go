package planetest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"

	"github.com/btns-ipsec/btns/dataplane"
	"github.com/btns-ipsec/btns/dataplane/flow"
	"github.com/btns-ipsec/btns/protect"
	"github.com/btns-ipsec/btns/selector"
)

// Cases are all that a plane must do.
func Cases() []Case {
	return slices.Concat(outbound(), inbound(), ruled(), controlled())
}

func outbound() []Case {
	return []Case{
		{"what has no state passes in clear and is noticed", clearPasses},
		{"Hold keeps packets until there is an SA", holdKeeps},
		{"the queue of Hold is bounded", holdIsBounded},
		{"Upgrade keeps packets until an SA sends, and lets clear ones in", upgradeKeeps},
		{"Protect without an SA drops (RFC 4301 §5.1)", protectDrops},
		{"Closed passes nothing (RFC 4301 §5.1)", closedDrops},
		{"outbound packets are sealed, IPv4", func(s *scene) { sealsOut(s) }},
		{"outbound packets are sealed, IPv6", func(s *scene) { s.local, s.remote = s.h.Ends(true); sealsOut(s) }},
		{"ports outside the selectors are not sent (RFC 4301 §5.1)", selectorsOut},
		{"the longest prefix decides", longestPrefix},
		{"rekeying moves from pair to pair and never leaks (RFC 7296 §2.8)", rekey},
		{"a new pair does not send before it is used", notBeforeUse},
		{"a retired pair does not send", retired},
		{"a removed pair does nothing, and is removed once", removed},
		{"a hard limit ends a pair (RFC 4301 §4.4.2.1)", hardLimit},
		{"a hard limit counts inbound too", hardLimitIn},
		{"a moved peer is sent to at its new address (RFC 7296 §2.23)", moveOut},
		{"fragments do not go into transport mode (RFC 4303 §3.3.4)", fragmentOut},
		{"changes apply in order", inOrder},
		{"a prefix is what the last change of a batch says", lastState},
		{"a failed change stops those behind it", failedChange},
		{"IKE messages go and come unchanged", ike},
		{"counters count", counters},
	}
}

func clearPasses(s *scene) {
	seen := s.send(s.out(1), s.out(2), s.out(3))
	s.same("on the wire in clear", wire(seen, Clear), s.out(1), s.out(2), s.out(3))
	switch a := events[dataplane.Acquire](seen); {
	case len(a) != 1:
		s.fail("%d acquires for three packets to one address within a second", len(a))
	case a[0].Held || a[0].Flow.Remote != s.remote:
		s.fail("acquire %+v", a[0])
	}
	s.same("delivered", s.receive(s.clear(s.in(1))).Delivered, s.in(1))
}

func holdKeeps(s *scene) {
	s.apply(s.state(flow.Hold))
	seen := s.send(s.out(1), s.out(2))
	s.silent("held", seen)
	if a := events[dataplane.Acquire](seen); len(a) != 1 || !a[0].Held || a[0].Flow.Remote != s.remote {
		s.fail("acquires %+v", a)
	}
	s.protect()
	seen = s.h.Seen()
	s.noClear("released", seen)
	s.same("released", s.opened(1, seen.Wire), s.out(1), s.out(2))
}

func upgradeKeeps(s *scene) {
	s.apply(s.add(s.spec(1), false), s.state(flow.Upgrade))
	s.silent("before the pair sends", s.send(s.out(1), s.out(2)))
	s.same("delivered", s.receive(s.clear(s.in(1))).Delivered, s.in(1))
	s.apply(dataplane.UseSA{ID: 1})
	seen := s.h.Seen()
	s.noClear("released", seen)
	s.same("released", s.opened(1, seen.Wire), s.out(1), s.out(2))
}

func holdIsBounded(s *scene) {
	const many = 5000
	s.apply(s.state(flow.Hold))
	for n := range uint16(many) {
		s.h.FromApp(s.out(n))
	}
	s.silent("held", s.h.Seen())
	s.protect()
	seen := s.h.Seen()
	s.noClear("released", seen)
	if n := len(wire(seen, ESP)); n == 0 || n > many/2 {
		s.fail("%d of %d held packets were kept", n, many)
	}
}

func protectDrops(s *scene) {
	s.apply(s.state(flow.Protect))
	seen := s.send(s.out(1))
	s.silent("without an SA", seen)
	s.protect()
	s.silent("dropped packets", s.h.Seen())
}

func closedDrops(s *scene) {
	s.apply(s.state(flow.Closed))
	s.silent("closed", s.send(s.out(1)))
	s.apply(s.add(s.spec(1), true))
	s.silent("closed with a pair", s.send(s.out(2)))
}

func sealsOut(s *scene) {
	for _, st := range []flow.State{flow.Upgrade, flow.Protect} {
		s.apply(s.state(st))
		if st == flow.Upgrade {
			s.apply(s.add(s.spec(1), true))
		}
		seen := s.send(s.out(1), s.out(2))
		s.noClear("protected", seen)
		for _, w := range seen.Wire {
			if p := s.peers[1]; w.Kind == ESP && (w.To != p.OuterLocal || w.From != p.OuterRemote) {
				s.fail("ESP went from %v to %v", w.From, w.To)
			}
		}
		s.same("at the peer", s.opened(1, seen.Wire), s.out(1), s.out(2))
	}
}

// ported restricts a pair to one port of the peer.
func ported(sp flow.Spec, port uint16) flow.Spec {
	r := sp.Remote[0]
	r.Proto, r.Ports = selector.UDP, selector.PortRange{From: port, To: port}
	sp.Remote = selector.Set{r}
	return sp
}

func selectorsOut(s *scene) {
	s.apply(s.add(ported(s.spec(1), 2000), true), s.state(flow.Protect))
	s.same("at the peer", s.opened(1, s.send(s.out(1)).Wire), s.out(1))
	s.silent("another port", s.send(udpPacket(s.local, s.remote, 1000, 2001, 1)))
}

func longestPrefix(s *scene) {
	wide, _ := s.remote.Prefix(24)
	s.apply(dataplane.SetPrefix{Prefix: wide, State: flow.Closed, Local: s.local})
	s.silent("closed network", s.send(s.out(1)))
	s.protect()
	s.same("host within a closed network", s.opened(1, s.send(s.out(2)).Wire), s.out(2))
	s.apply(s.state(flow.Clear))
	s.silent("host forgotten", s.send(s.out(3)))
	s.apply(dataplane.SetPrefix{Prefix: wide, State: flow.Clear})
	s.same("all forgotten", wire(s.send(s.out(4)), Clear), s.out(4))
}

func rekey(s *scene) {
	s.protect()
	s.apply(s.add(s.spec(2), false))
	s.same("the new pair receives at once", s.receive(s.sealed(2, s.in(1))).Delivered, s.in(1))
	s.apply(dataplane.UseSA{ID: 2})
	seen := s.send(s.out(2))
	s.noClear("rekeyed", seen)
	s.same("the new pair sends", s.opened(2, seen.Wire), s.out(2))
	s.same("the old pair is silent", s.opened(1, seen.Wire))
	s.same("the old pair still receives", s.receive(s.sealed(1, s.in(3))).Delivered, s.in(3))
	s.apply(dataplane.RetireSA{ID: 1}, dataplane.RemoveSA{ID: 1})
	seen = s.send(s.out(4))
	s.noClear("old pair removed", seen)
	s.same("old pair removed", s.opened(2, seen.Wire), s.out(4))
	s.apply(dataplane.RetireSA{ID: 2}, s.add(s.spec(3), false))
	s.silent("between two pairs", s.send(s.out(5)))
	s.apply(dataplane.UseSA{ID: 3})
	s.same("third pair", s.opened(3, s.send(s.out(6)).Wire), s.out(6))
}

func notBeforeUse(s *scene) {
	s.apply(s.add(s.spec(1), false), s.state(flow.Protect))
	s.silent("pair not in use", s.send(s.out(1)))
	s.apply(dataplane.UseSA{ID: 1}, s.add(s.spec(2), false))
	seen := s.send(s.out(2))
	s.same("the pair in use", s.opened(1, seen.Wire), s.out(2))
	s.same("the other pair", s.opened(2, seen.Wire))
}

func retired(s *scene) {
	s.protect()
	s.apply(dataplane.RetireSA{ID: 1})
	s.silent("retired", s.send(s.out(1)))
	s.same("retired pair receives", s.receive(s.sealed(1, s.in(2))).Delivered, s.in(2))
}

func removed(s *scene) {
	s.protect()
	late := s.sealed(1, s.in(1))
	s.apply(dataplane.RemoveSA{ID: 1}, dataplane.RemoveSA{ID: 1}, dataplane.RemoveSA{ID: 99})
	s.silent("removed", s.send(s.out(1)))
	seen := s.receive(late)
	s.same("removed pair receives", seen.Delivered)
	if u := events[dataplane.UnknownSPI](seen); len(u) != 1 || u[0].SPI != 0x10001 {
		s.fail("unknown SPI reported as %+v", u)
	}
}

func limited(s *scene) {
	sp := s.spec(1)
	sp.Soft, sp.Hard = protect.Limits{Packets: 2}, protect.Limits{Packets: 4}
	s.apply(s.add(sp, true), s.state(flow.Protect))
}

// spent checks what was reported of a pair with limits, of which seen is all.
func (s *scene) spent(seen Seen) {
	var soft, hard int
	for _, e := range events[dataplane.Spent](seen) {
		if e.Hard {
			hard++
		} else {
			soft++
		}
	}
	if soft != 1 || hard != 1 {
		s.fail("the soft limit was reported %d times, the hard one %d times", soft, hard)
	}
}

func hardLimit(s *scene) {
	limited(s)
	var pkts [][]byte
	for n := range uint16(8) {
		pkts = append(pkts, s.out(n))
	}
	seen := s.send(pkts...)
	s.noClear("spent", seen)
	s.same("up to the limit", s.opened(1, seen.Wire), pkts[:4]...)
	s.spent(seen)
	s.same("spent pair receives", s.receive(s.sealed(1, s.in(1))).Delivered)
}

func hardLimitIn(s *scene) {
	limited(s)
	var (
		in   []Wired
		want [][]byte
	)
	for n := range uint16(8) {
		in = append(in, s.sealed(1, s.in(n)))
		want = append(want, s.in(n))
	}
	seen := s.receive(in...)
	s.same("up to the limit", seen.Delivered, want[:4]...)
	s.spent(seen)
	s.silent("spent", s.send(s.out(1)))
}

func moveOut(s *scene) {
	s.protect()
	to := netip.AddrPortFrom(s.remote, 40001)
	s.apply(dataplane.MoveSA{ID: 1, Remote: to})
	seen := s.send(s.out(1))
	for _, w := range seen.Wire {
		if w.To != to {
			s.fail("ESP went to %v, not to %v", w.To, to)
		}
	}
	s.same("moved", s.opened(1, seen.Wire), s.out(1))
	s.same("moved pair receives", s.receive(s.sealed(1, s.in(2))).Delivered, s.in(2))
}

func fragmentOut(s *scene) {
	s.protect()
	first, later := s.out(1), s.out(1)
	binary.BigEndian.PutUint16(first[6:], 0x2000)
	binary.BigEndian.PutUint16(later[6:], 0x0010)
	for _, p := range [][]byte{first, later} {
		p[10], p[11] = 0, 0
		binary.BigEndian.PutUint16(p[10:], flow.Checksum(p[:20]))
	}
	s.noClear("fragments", s.send(first, later))
}

func inOrder(s *scene) {
	one, other := s.spec(1), s.spec(1)
	other.KeysIn, other.KeysOut = s.spec(2).KeysIn, s.spec(2).KeysOut
	s.apply(s.add(one, true), dataplane.RemoveSA{ID: 1}, s.add(other, true), s.state(flow.Closed), s.state(flow.Protect))
	s.same("the last state and the last pair", s.opened(1, s.send(s.out(1)).Wire), s.out(1))
}

func lastState(s *scene) {
	s.apply(s.add(s.spec(1), true), s.state(flow.Protect), s.state(flow.Clear))
	s.same("returned, on the wire in clear", wire(s.send(s.out(1)), Clear), s.out(1))
	s.same("returned, delivered", s.receive(s.clear(s.in(1))).Delivered, s.in(1))
	s.apply(s.state(flow.Hold), s.state(flow.Clear), s.state(flow.Protect))
	seen := s.send(s.out(2))
	s.noClear("given again", seen)
	s.same("given again", s.opened(1, seen.Wire), s.out(2))
}

func failedChange(s *scene) {
	twice := s.spec(1)
	err := s.h.Plane().Apply([]dataplane.Change{
		s.add(s.spec(1), true), s.state(flow.Protect), dataplane.AddSA{Spec: twice}, s.state(flow.Clear),
	})
	var failed *dataplane.ChangeError
	if !errors.As(err, &failed) || failed.Index != 2 {
		s.fail("an ID was taken twice, or the error does not say by which change: %v", err)
	}
	seen := s.send(s.out(1))
	s.noClear("after a failed change", seen)
	s.same("changes before the failed one", s.opened(1, seen.Wire), s.out(1))
	if err := s.h.Plane().Apply([]dataplane.Change{dataplane.UseSA{ID: 77}}); err == nil {
		s.fail("an unknown pair was put to use")
	}
}

func ike(s *scene) {
	a, b := netip.AddrPortFrom(s.local, 4500), netip.AddrPortFrom(s.remote, 4500)
	msg := []byte("an IKE message, of more octets than any header")
	if err := s.h.Plane().Send(a, b, bytes.Clone(msg)); err != nil {
		s.fail("Send: %v", err)
	}
	seen := s.h.Seen()
	if len(seen.Wire) != 1 || seen.Wire[0].Kind != IKE || seen.Wire[0].From != a || seen.Wire[0].To != b || !bytes.Equal(seen.Wire[0].Data, msg) {
		s.fail("sent: %+v", seen.Wire)
	}
	s.apply(s.state(flow.Closed)) // IKE goes even then (RFC 4301 §5.1)
	seen = s.receive(Wired{Kind: IKE, From: b, To: a, Data: msg})
	if d := events[dataplane.Datagram](seen); len(d) != 1 || d[0].Local != a || d[0].Remote != b || !bytes.Equal(d[0].Data, msg) {
		s.fail("received: %+v", d)
	}
}

func counters(s *scene) {
	s.protect()
	s.send(s.out(1), s.out(2))
	w := s.sealed(1, s.in(1))
	s.receive(w, w)
	c := s.h.Plane().Counters(nil)
	if len(c) != 1 || c[0].ID != 1 {
		s.fail("counters: %+v", c)
		return
	}
	if c[0].PacketsOut != 2 || c[0].PacketsIn != 1 || c[0].BytesOut != 48 || c[0].BytesIn != 24 || c[0].Drops != 1 ||
		c[0].LastIn.IsZero() || c[0].LastOut.IsZero() {
		s.fail("counters: %+v", c[0])
	}
}
