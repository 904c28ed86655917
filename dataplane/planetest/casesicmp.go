package planetest

import (
	"encoding/binary"
	"net/netip"

	"github.com/btns-ipsec/btns/dataplane/flow"
	"github.com/btns-ipsec/btns/protect"
	"github.com/btns-ipsec/btns/selector"
)

func controlled() []Case {
	six := func(play func(*scene)) func(*scene) {
		return func(s *scene) {
			s.local, s.remote = s.h.Ends(true)
			play(s)
		}
	}
	return []Case{
		{"rules tell ICMP apart by type and code, IPv4 (RFC 4301 §4.4.1.1, §6.1.1, BTNS-CORE-26)", icmpByType},
		{"rules tell ICMP apart by type and code, IPv6 (RFC 4301 §4.4.1.1, §6.1.1, BTNS-CORE-26)", six(icmpByType)},
		{"an ICMP error goes with the packets that it is about, IPv4 (RFC 4301 §6.2, BTNS-CORE-26)", icmpErrors},
		{"an ICMP error goes with the packets that it is about, IPv6 (RFC 4301 §6.2, BTNS-CORE-26)", six(icmpErrors)},
	}
}

// icmp is the protocol and a type of it that a host does nothing about by itself (RFC 4727, RFC 4443 §2.1), and the type
// "parameter problem".
func (s *scene) icmp() (proto, typ, problem uint8) {
	if s.local.Is4() {
		return selector.ICMP, 253, 12
	}
	return selector.ICMPv6, 200, 4
}

func icmpPacket(src, dst netip.Addr, proto, typ, code uint8, data []byte) []byte {
	m := append([]byte{typ, code, 0, 0, 0, 0, 0, 0}, data...)
	sum := flow.Checksum(m)
	if proto == selector.ICMPv6 {
		sum = flow.UpperChecksum(src, dst, proto, m)
	}
	binary.BigEndian.PutUint16(m[2:], sum)
	return ipPacket(src, dst, proto, 0, m)
}

func icmpByType(s *scene) {
	proto, typ, _ := s.icmp()
	about := func(from, to uint16) selector.Set {
		x := selector.Any()
		for i := range x {
			x[i].Proto, x[i].Ports = proto, selector.PortRange{From: from, To: to}
		}
		return x
	}
	t := uint16(typ) << 8
	rules := s.ruled([]flow.Rule{
		{Local: about(t|1, t|1), Remote: selector.Any(), Action: flow.Pass},
		{Local: about(t|2, t|2), Remote: selector.Any(), Action: flow.Seal, MustOut: true, MustIn: true},
		{Local: about(t+256, t+511), Remote: selector.Any(), Action: flow.Drop},
	})
	out := func(typ, code uint8) []byte {
		return icmpPacket(s.local, s.remote, proto, typ, code, []byte("sixteen octets.."))
	}
	in := func(typ, code uint8) []byte {
		return icmpPacket(s.remote, s.local, proto, typ, code, []byte("sixteen octets.."))
	}
	s.apply(rules)
	seen := s.send(out(typ, 0), out(typ, 1), out(typ+1, 0), out(typ+1, 7), out(typ, 2))
	s.same("towards an unknown host", wire(seen, Clear), out(typ, 0), out(typ, 1))
	got := s.receive(s.clear(in(typ, 0)), s.clear(in(typ, 1)), s.clear(in(typ+1, 0)), s.clear(in(typ, 2)))
	s.same("from an unknown host", got.Delivered, in(typ, 0), in(typ, 1))
	s.protect()
	s.h.Seen() // what was held
	seen = s.send(out(typ, 0), out(typ, 1), out(typ, 2), out(typ+1, 7))
	s.same("towards a protected host, in clear", wire(seen, Clear), out(typ, 1))
	s.same("towards a protected host", s.opened(1, seen.Wire), out(typ, 0), out(typ, 2))
	got = s.receive(s.clear(in(typ, 0)), s.clear(in(typ, 1)), s.clear(in(typ, 2)))
	s.same("from a protected host, in clear", got.Delivered, in(typ, 1))
	got = s.receive(s.sealed(1, in(typ, 0)), s.sealed(1, in(typ+1, 0)), s.sealed(1, in(typ, 2)))
	s.same("from a protected host", got.Delivered, in(typ, 0), in(typ, 2))
}

// icmpErrors has an SA for one UDP port: an error about its packets has no other way, and one about others has none.
func icmpErrors(s *scene) {
	proto, _, problem := s.icmp()
	sp := ported(s.spec(1), 2000)
	sp.Mode = protect.Transport
	s.apply(s.add(sp, true), s.state(flow.Protect))
	other := func(from, to netip.Addr, sport, dport uint16) []byte { return udpPacket(from, to, sport, dport, 1) }
	told := func(about []byte) []byte { return icmpPacket(s.local, s.remote, proto, problem, 0, about) }
	said := func(about []byte) []byte { return icmpPacket(s.remote, s.local, proto, problem, 0, about) }
	seen := s.send(told(s.in(1)), told(other(s.remote, s.local, 2001, 1000)))
	s.noClear("errors of ours", seen)
	s.same("errors of ours", s.opened(1, seen.Wire), told(s.in(1)))
	got := s.receive(s.sealed(1, said(s.out(1))), s.sealed(1, said(other(s.local, s.remote, 1000, 2001))), s.clear(said(s.out(2))))
	s.same("errors of the peer", got.Delivered, said(s.out(1)))
}
