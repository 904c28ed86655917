package planetest

import (
	"bytes"
	"net/netip"

	"github.com/btns-ipsec/btns/dataplane"
	"github.com/btns-ipsec/btns/dataplane/flow"
	"github.com/btns-ipsec/btns/esp"
	"github.com/btns-ipsec/btns/protect"
	"github.com/btns-ipsec/btns/selector"
)

func inbound() []Case {
	return []Case{
		{"protected packets are delivered, and the first is reported, IPv4", func(s *scene) { opensIn(s) }},
		{"protected packets are delivered, and the first is reported, IPv6", func(s *scene) {
			s.local, s.remote = s.h.Ends(true)
			opensIn(s)
		}},
		{"clear packets come in only where the state lets them (RFC 4301 §5.2)", clearIn},
		{"an opened packet outside the selectors is dropped (BTNS-CORE-23)", selectorsIn},
		{"an inner address outside the selectors is dropped (RFC 4301 §5.2)", spoofed},
		{"a tunnel packet on a transport SA is dropped (RFC 4301 §5.2)", wrongMode},
		{"a transport packet on a tunnel SA is dropped (RFC 4301 §5.2)", wrongModeTunnel},
		{"a replay is dropped (RFC 4303 §3.4.3)", replay},
		{"a forgery is dropped and moves nothing (RFC 4303 §3.4.3)", forged},
		{"right keys under another SPI do not count (RFC 4303 §3.4.2)", otherSPI},
		{"unknown SPIs are reported at most once a second", unknownSPI},
		{"dummy packets are no error (RFC 4303 §2.6)", dummy},
		{"checksums of transport mode through a NAT are repaired (RFC 3948 §3.1.2)", natChecksum},
		{"a peer that may move is followed, by fresh packets only (RFC 7296 §2.23)", follows},
		{"a peer that may move keeps its IP version", keepsItsVersion},
		{"a peer that may not move is not followed", staysPut},
		{"tunnel mode carries networks", tunnel},
		{"congestion marks come through a tunnel (RFC 6040)", congestion},
	}
}

func opensIn(s *scene) {
	s.protect()
	seen := s.receive(s.sealed(1, s.in(1)), s.sealed(1, s.in(2)), s.sealed(1, s.in(3)))
	s.same("delivered", seen.Delivered, s.in(1), s.in(2), s.in(3))
	if c := events[dataplane.Carried](seen); len(c) != 1 || c[0].ID != 1 {
		s.fail("first packets reported: %+v", c)
	}
}

func clearIn(s *scene) {
	for _, c := range []struct {
		state flow.State
		pass  bool
	}{{flow.Upgrade, true}, {flow.Protect, false}, {flow.Hold, false}, {flow.Closed, false}, {flow.Clear, true}} {
		s.apply(s.state(c.state))
		got := s.receive(s.clear(s.in(7))).Delivered
		if (len(got) == 1) != c.pass {
			s.fail("state %d: %d clear packets were delivered", c.state, len(got))
		}
	}
	s.protect()
	s.same("clear packet beside an SA", s.receive(s.clear(s.in(8))).Delivered)
}

func selectorsIn(s *scene) {
	s.apply(s.add(ported(s.spec(1), 2000), true), s.state(flow.Protect))
	bad := udpPacket(s.remote, s.local, 2001, 1000, 1)
	s.same("another port", s.receive(s.sealed(1, bad)).Delivered)
	s.same("the right port", s.receive(s.sealed(1, s.in(1))).Delivered, s.in(1))
}

// tunnelled is a tunnel pair between the host and a network behind the peer.
func (s *scene) tunnelled() (flow.Spec, netip.Prefix, netip.Addr) {
	network := netip.MustParsePrefix("10.77.0.0/16")
	sp := s.spec(1)
	sp.Mode, sp.Remote = protect.Tunnel, selector.Set{selector.Prefix(network)}
	return sp, network, netip.MustParseAddr("10.77.1.9")
}

func (s *scene) tunnel() netip.Addr {
	sp, network, host := s.tunnelled()
	s.apply(s.add(sp, true), dataplane.SetPrefix{Prefix: network, State: flow.Protect, Local: s.local})
	return host
}

func spoofed(s *scene) {
	host := s.tunnel()
	for _, c := range []struct{ src, dst netip.Addr }{
		{netip.MustParseAddr("10.78.0.1"), s.local}, {s.remote, s.local}, {host, host},
	} {
		s.same("spoofed", s.receive(s.sealed(1, udpPacket(c.src, c.dst, 2000, 1000, 1))).Delivered)
	}
}

func wrongMode(s *scene) {
	s.protect()
	inner := s.in(1)
	s.same("unwrapped", s.receive(s.sealedPayload(1, inner, esp.NextIPv4)).Delivered)
}

func wrongModeTunnel(s *scene) {
	host := s.tunnel()
	inner := udpPacket(host, s.local, 2000, 1000, 1)
	s.same("next header UDP", s.receive(s.sealedPayload(1, inner[20:], selector.UDP)).Delivered)
	s.same("IPv4 said to be IPv6", s.receive(s.sealedPayload(1, inner, esp.NextIPv6)).Delivered)
}

func replay(s *scene) {
	s.protect()
	a, b := s.sealed(1, s.in(1)), s.sealed(1, s.in(2))
	s.same("once each, in any order", s.receive(b, a, b, a, a).Delivered, s.in(2), s.in(1))
}

func forged(s *scene) {
	s.protect()
	good := s.sealed(1, s.in(1))
	for range 2000 { // as many as a window
		s.sealed(1, s.in(0))
	}
	ahead := s.sealed(1, s.in(2))
	ahead.Data[len(ahead.Data)-1] ^= 1
	seen := s.receive(ahead)
	s.same("forged", seen.Delivered)
	if len(events[dataplane.Carried](seen)) > 0 {
		s.fail("a forged packet counts as carried")
	}
	s.same("behind a forged number", s.receive(good).Delivered, s.in(1))
}

func otherSPI(s *scene) {
	s.protect()
	sp := s.spec(1)
	sp.ID, sp.SPIIn = 5, 0x55555
	s.add(sp, false) // to the peer only
	s.same("right keys, another SPI", s.receive(s.sealed(5, s.in(1))).Delivered)
	w := s.sealed(1, s.in(2))
	w.Data[3] ^= 0x40
	s.same("right packet, another SPI", s.receive(w).Delivered)
}

func unknownSPI(s *scene) {
	s.add(s.spec(1), false) // to the peer only
	seen := s.receive(s.sealed(1, s.in(1)), s.sealed(1, s.in(2)), s.sealed(1, s.in(3)))
	s.same("unknown SPI", seen.Delivered)
	u := events[dataplane.UnknownSPI](seen)
	if len(u) != 1 || u[0].SPI != s.spec(1).SPIIn || u[0].Remote != s.spec(1).OuterRemote {
		s.fail("reported: %+v", u)
	}
	s.silent("an answer", seen)
}

func dummy(s *scene) {
	s.protect()
	s.same("dummy", s.receive(s.sealedPayload(1, []byte{1, 2, 3, 4}, esp.NextDummy)).Delivered)
	s.same("behind it", s.receive(s.sealed(1, s.in(1))).Delivered, s.in(1))
}

func natChecksum(s *scene) {
	sp := s.spec(1)
	sp.SawRemote, sp.SawLocal = netip.MustParseAddr("10.0.0.7"), s.local
	s.apply(s.add(sp, true), s.state(flow.Protect))
	inside := udpPacket(sp.SawRemote, s.local, 2000, 1000, 1) // the checksum is over the inside address
	got := s.receive(s.sealedPayload(1, inside[20:], selector.UDP)).Delivered
	s.same("through a NAT", got, s.in(1))
	for _, p := range got {
		if flow.UpperChecksum(s.remote, s.local, selector.UDP, p[20:]) != 0 {
			s.fail("the UDP checksum is wrong: %x", p)
		}
	}
}

func follows(s *scene) {
	sp := s.spec(1)
	sp.PeerMoves = true
	s.apply(s.add(sp, true), s.state(flow.Protect))
	to := netip.AddrPortFrom(s.remote, 40001)
	from := func(w Wired, a netip.AddrPort) Wired { w.From = a; return w }

	old := s.sealed(1, s.in(1))
	s.receive(s.sealed(1, s.in(2)))
	s.report("an old packet", s.receive(from(old, to)))
	bad := s.sealed(1, s.in(3))
	bad.Data = bytes.Clone(bad.Data)
	bad.Data[20] ^= 1
	s.report("a forged packet", s.receive(from(bad, to)))
	seen := s.receive(from(s.sealed(1, s.in(4)), to))
	s.same("delivered from elsewhere", seen.Delivered, s.in(4))
	s.report("a fresh packet", seen, dataplane.Moved{ID: 1, Remote: to})
	s.apply(dataplane.MoveSA{ID: 1, Remote: to})
	s.report("after the move", s.receive(from(s.sealed(1, s.in(5)), to)))
}

// In a tunnel a packet is the same whatever it came in.
func keepsItsVersion(s *scene) {
	sp := s.spec(1)
	sp.Mode, sp.PeerMoves = protect.Tunnel, true
	s.apply(s.add(sp, true), s.state(flow.Protect))
	local, remote := s.h.Ends(true)
	w := s.sealed(1, s.in(1))
	w.From, w.To = netip.AddrPortFrom(remote, 40001), netip.AddrPortFrom(local, 4500)
	s.report("a packet of the other IP version", s.receive(w))
}

// report checks which moves were reported.
func (s *scene) report(what string, seen Seen, want ...dataplane.Moved) {
	got := events[dataplane.Moved](seen)
	if len(got) != len(want) || len(got) == 1 && got[0] != want[0] {
		s.fail("%s: moves reported: %+v", what, got)
	}
}

func staysPut(s *scene) {
	s.protect()
	w := s.sealed(1, s.in(1))
	w.From = netip.AddrPortFrom(s.remote, 40001)
	s.report("another port", s.receive(w))
}

func tunnel(s *scene) {
	host := s.tunnel()
	out, in := udpPacket(s.local, host, 1000, 2000, 1), udpPacket(host, s.local, 2000, 1000, 2)
	seen := s.send(out)
	s.noClear("tunnel", seen)
	s.same("at the peer", s.opened(1, seen.Wire), out)
	padded := append(bytes.Clone(in), make([]byte, 40)...) // RFC 4303 §2.7
	s.same("delivered", s.receive(s.sealed(1, in), s.sealedPayload(1, padded, esp.NextIPv4)).Delivered, in, in)
	s.same("beside the tunnel", wire(s.send(s.out(3)), Clear), s.out(3))
}

func congestion(s *scene) {
	host := s.tunnel()
	u := udpPacket(host, s.local, 2000, 1000, 1)
	capable := ipPacket(host, s.local, selector.UDP, 2, u[20:])
	w := s.sealed(1, capable)
	w.TOS = 3
	got := s.receive(w).Delivered
	s.same("marked", got, capable)
	for _, p := range got {
		if p[1]&3 != 3 || flow.Checksum(p[:20]) != 0 {
			s.fail("the mark is lost, or the header checksum is wrong: %x", p[:20])
		}
	}
	w = s.sealed(1, u)
	w.TOS = 3
	s.same("marked, but not capable", s.receive(w).Delivered)
}
