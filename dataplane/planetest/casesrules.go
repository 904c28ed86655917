package planetest

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/btns-ipsec/btns/dataplane"
	"github.com/btns-ipsec/btns/dataplane/flow"
	"github.com/btns-ipsec/btns/protect"
	"github.com/btns-ipsec/btns/selector"
)

func ruled() []Case {
	return []Case{
		{"a rule has single protocols pass in clear, both ways, IPv4 (RFC 4301 §4.4.1)", func(s *scene) { bypassed(s) }},
		{"a rule has single protocols pass in clear, both ways, IPv6 (RFC 4301 §4.4.1)", func(s *scene) {
			s.local, s.remote = s.h.Ends(true)
			bypassed(s)
		}},
		{"a rule discards with any host, in any form (RFC 4301 §5.2, BTNS-CORE-23)", discarded},
		{"the first rule that matches decides (RFC 4301 §4.4.1)", firstRule},
		{"a rule may demand protection where the state does not", demanded},
		{"a packet that no SA takes asks for one (RFC 4301 §5.1)", asks},
		{"what leaves in clear is counted by the rule that lets it, IPv4 (RFC 4301 §4.4.1)", func(s *scene) { cleared(s) }},
		{"what leaves in clear is counted by the rule that lets it, IPv6 (RFC 4301 §4.4.1)", func(s *scene) {
			s.local, s.remote = s.h.Ends(true)
			cleared(s)
		}},
		{"each flow travels under the SA that was made for it, and asks for one (RFC 4301 §4.4.1.1)", populated},
		{"rules replace each other and go", replaced},
		{"the outer header is marked as the SPD says (RFC 4301 §4.4.1.2)", marked},
	}
}

// The ports that the rules of these cases are about.
const (
	bypassPort  = 8080
	discardPort = 9999
	demandPort  = 179
)

// rule is about one UDP port, ours or the peer's.
func rule(a flow.Action, port uint16) []flow.Rule {
	one := selector.Any()
	for i := range one {
		one[i].Proto, one[i].Ports = selector.UDP, selector.PortRange{From: port, To: port}
	}
	return []flow.Rule{{Local: selector.Any(), Remote: one, Action: a}, {Local: one, Remote: selector.Any(), Action: a}}
}

var rest = flow.Rule{Local: selector.Any(), Remote: selector.Any(), Action: flow.Seal}

func (s *scene) ruled(lists ...[]flow.Rule) dataplane.Change {
	var all []flow.Rule
	for _, l := range lists {
		all = append(all, l...)
	}
	return dataplane.SetRules{Rules: append(all, rest)}
}

// outTo and inFrom are packets from and to port 1000 of the host; answer is one from a port of the host.
func (s *scene) outTo(port uint16) []byte  { return udpPacket(s.local, s.remote, 1000, port, port) }
func (s *scene) inFrom(port uint16) []byte { return udpPacket(s.remote, s.local, port, 1000, port) }
func (s *scene) answer(port uint16) []byte { return udpPacket(s.local, s.remote, port, 1000, port) }

func bypassed(s *scene) {
	s.protect()
	s.apply(s.ruled(rule(flow.Pass, bypassPort)))
	for _, st := range []flow.State{flow.Protect, flow.Hold, flow.Upgrade, flow.Closed} {
		s.apply(s.state(st))
		seen := s.send(s.outTo(bypassPort), s.answer(bypassPort))
		s.same("bypassed", wire(seen, Clear), s.outTo(bypassPort), s.answer(bypassPort))
		s.same("bypassed, in ESP", s.opened(1, seen.Wire))
		s.same("bypassed, inbound", s.receive(s.clear(s.inFrom(bypassPort))).Delivered, s.inFrom(bypassPort))
	}
	s.apply(s.state(flow.Protect))
	seen := s.send(s.out(1))
	s.noClear("other ports", seen)
	s.same("other ports", s.opened(1, seen.Wire), s.out(1))
	s.same("other ports, inbound", s.receive(s.clear(s.in(1))).Delivered)
	s.same("bypassed, but the peer protects it", s.receive(s.sealed(1, s.inFrom(bypassPort))).Delivered, s.inFrom(bypassPort))
}

func discarded(s *scene) {
	s.apply(s.ruled(rule(flow.Drop, discardPort)))
	s.silent("discarded towards an unknown host", s.send(s.outTo(discardPort)))
	s.same("discarded from an unknown host", s.receive(s.clear(s.inFrom(discardPort))).Delivered)
	s.protect()
	s.silent("discarded towards a protected host", s.send(s.outTo(discardPort)))
	seen := s.receive(s.clear(s.inFrom(discardPort)), s.sealed(1, s.inFrom(discardPort)), s.sealed(1, s.in(1)))
	s.same("discarded from a protected host", seen.Delivered, s.in(1))
	s.apply(s.state(flow.Upgrade))
	s.same("discarded while a host becomes protected", s.receive(s.clear(s.inFrom(discardPort))).Delivered)
}

func firstRule(s *scene) {
	s.protect()
	narrow := rule(flow.Drop, bypassPort)
	for i := range narrow {
		narrow[i].Remote = narrow[i].Remote.Intersect(selector.Set{selector.Host(s.remote)})
	}
	s.apply(s.ruled(narrow, rule(flow.Pass, bypassPort)))
	s.silent("the narrow rule first", s.send(s.outTo(bypassPort)))
	s.apply(s.ruled(rule(flow.Pass, bypassPort), narrow))
	s.same("the wide rule first", wire(s.send(s.outTo(bypassPort)), Clear), s.outTo(bypassPort))
	s.apply(s.ruled(rule(flow.Seal, bypassPort), rule(flow.Pass, bypassPort)))
	seen := s.send(s.outTo(bypassPort))
	s.noClear("a rule that protects first", seen)
	s.same("a rule that protects first", s.opened(1, seen.Wire), s.outTo(bypassPort))
}

func demanded(s *scene) {
	must := rule(flow.Seal, demandPort)
	for i := range must {
		must[i].MustOut, must[i].MustIn = true, true
	}
	s.apply(s.ruled(must))
	seen := s.send(s.outTo(demandPort))
	s.silent("protection is demanded and there is none", seen)
	if a := events[dataplane.Acquire](seen); len(a) != 1 || a[0].Flow.Remote != s.remote {
		s.fail("acquires %+v", a)
	}
	s.same("clear text where protection is demanded", s.receive(s.clear(s.inFrom(demandPort))).Delivered)
	s.same("nothing is demanded of others", wire(s.send(s.out(1)), Clear), s.out(1))
	s.apply(s.add(s.spec(1), true), s.state(flow.Upgrade))
	seen = s.h.Seen()
	s.noClear("what waited", seen)
	s.same("what waited", s.opened(1, seen.Wire), s.outTo(demandPort))
	s.same("clear text while a host becomes protected", s.receive(s.clear(s.inFrom(demandPort)), s.clear(s.in(2))).Delivered, s.in(2))
	seen = s.send(s.outTo(demandPort))
	s.noClear("with a pair", seen)
	s.same("with a pair", s.opened(1, seen.Wire), s.outTo(demandPort))
}

func asks(s *scene) {
	s.apply(s.ruled(rule(flow.Pass, bypassPort)), s.add(ported(s.spec(1), 2000), true), s.state(flow.Protect))
	s.noClear("taken", s.send(s.out(1)))
	seen := s.send(udpPacket(s.local, s.remote, 1000, 2001, 1))
	s.silent("another port", seen)
	if a := events[dataplane.Acquire](seen); len(a) != 1 || a[0].Held || a[0].Flow.RemotePort != 2001 {
		s.fail("acquires %+v", a)
	}
}

// populated has SAs with the selectors of single packets.
func populated(s *scene) {
	of := func(id flow.PairID, lport, rport uint16) flow.Spec {
		sp := ported(s.spec(id), rport)
		l := sp.Local[0]
		l.Proto, l.Ports = selector.UDP, selector.PortRange{From: lport, To: lport}
		sp.Local = selector.Set{l}
		return sp
	}
	out := func(lport, rport uint16) []byte { return udpPacket(s.local, s.remote, lport, rport, lport^rport) }
	in := func(rport, lport uint16) []byte { return udpPacket(s.remote, s.local, rport, lport, lport^rport) }
	s.apply(s.add(of(1, 1000, 2000), true), s.add(of(2, 1000, 2001), true), s.add(of(3, 1001, 2000), true), s.state(flow.Protect))
	seen := s.send(out(1001, 2000), out(1000, 2001), out(1000, 2000), out(1001, 2001))
	s.noClear("flows", seen)
	s.same("the first flow", s.opened(1, seen.Wire), out(1000, 2000))
	s.same("the second flow", s.opened(2, seen.Wire), out(1000, 2001))
	s.same("the third flow", s.opened(3, seen.Wire), out(1001, 2000))
	if a := events[dataplane.Acquire](seen); len(a) != 1 || a[0].Flow.LocalPort != 1001 || a[0].Flow.RemotePort != 2001 {
		s.fail("acquires %+v", a)
	}
	got := s.receive(s.sealed(1, in(2000, 1000)), s.sealed(2, in(2000, 1000)), s.sealed(3, in(2000, 1001)))
	s.same("answers", got.Delivered, in(2000, 1000), in(2000, 1001))
}

// countedAs has rules about the peer count under a number.
func (s *scene) countedAs(n uint32, list []flow.Rule) []flow.Rule {
	out := slices.Clone(list)
	for i := range out {
		out[i].Tally = n
		out[i].Remote = out[i].Remote.Intersect(selector.Set{selector.Host(s.remote)})
	}
	return out
}

func cleared(s *scene) {
	const bypassedAs, demandedAs, restAs = 5, 6, 9
	must := rule(flow.Seal, demandPort)
	for i := range must {
		must[i].MustOut = true
	}
	rules := s.ruled(s.countedAs(bypassedAs, rule(flow.Pass, bypassPort)), s.countedAs(demandedAs, must), s.countedAs(restAs, []flow.Rule{rest}))
	count := func(what string, want map[uint32]uint64) {
		got := make(map[uint32]uint64)
		for _, c := range s.h.Plane().Cleared(nil) {
			if c.Packets > 0 {
				got[c.Tally] = c.Packets
			}
			if size := uint64(len(s.out(1))); c.Bytes != c.Packets*size {
				s.fail("%s: %d octets in %d packets of %d", what, c.Bytes, c.Packets, size)
			}
		}
		if !maps.Equal(got, want) {
			s.fail("%s: packets are counted as %v, not %v", what, got, want)
		}
	}
	s.apply(rules)
	s.send(s.outTo(bypassPort), s.answer(bypassPort), s.out(1), s.out(2), s.out(3), s.outTo(demandPort))
	count("with an unknown host", map[uint32]uint64{bypassedAs: 2, restAs: 3})
	s.protect()
	s.send(s.outTo(bypassPort), s.out(4), s.outTo(demandPort))
	s.receive(s.clear(s.inFrom(bypassPort)))
	s.apply(rules) // what was sent protected would be counted with this at the latest
	count("with a protected host", map[uint32]uint64{bypassedAs: 3, restAs: 3})
	s.send(s.outTo(bypassPort))
	count("after the same rules once more", map[uint32]uint64{bypassedAs: 4, restAs: 3})
	s.apply(s.ruled(s.countedAs(restAs, []flow.Rule{rest})))
	count("after one is gone", map[uint32]uint64{restAs: 3})
	s.apply(rules)
	count("after it is back", map[uint32]uint64{restAs: 3})
}

func replaced(s *scene) {
	s.protect()
	s.apply(s.ruled(rule(flow.Pass, bypassPort)), s.ruled(rule(flow.Pass, discardPort)))
	seen := s.send(s.outTo(bypassPort))
	s.noClear("of an older rule", seen)
	s.same("of an older rule", s.opened(1, seen.Wire), s.outTo(bypassPort))
	s.same("of the new rule", wire(s.send(s.outTo(discardPort)), Clear), s.outTo(discardPort))
	s.apply(dataplane.SetRules{})
	s.noClear("without rules", s.send(s.outTo(discardPort)))
	s.same("without rules", s.receive(s.clear(s.inFrom(discardPort))).Delivered)
	if err := s.h.Plane().Apply([]dataplane.Change{dataplane.SetRules{Rules: []flow.Rule{{Action: flow.Pass}}}}); err == nil {
		s.fail("a rule without selectors was taken")
	}
}

func marked(s *scene) {
	sp := s.spec(1)
	sp.Marks = protect.Marks{SetDSCP: true, DSCP: 46}
	s.apply(s.add(sp, true), s.state(flow.Protect))
	for _, w := range s.send(s.out(1)).Wire {
		if w.TOS != 46<<2 {
			s.fail("the outer header has %#x", w.TOS)
		}
	}
	network := netip.MustParsePrefix("10.77.0.0/16")
	sp = s.spec(2)
	sp.Mode, sp.Remote, sp.Marks = protect.Tunnel, selector.Set{selector.Prefix(network)}, protect.Marks{ClearECN: true}
	s.apply(s.add(sp, true), dataplane.SetPrefix{Prefix: network, State: flow.Protect, Local: s.local})
	inner := ipPacket(s.local, network.Addr().Next(), selector.UDP, 10<<2|2, udpPacket(s.local, network.Addr().Next(), 1000, 2000, 1)[20:])
	for _, w := range s.send(inner).Wire {
		if w.TOS != 10<<2 {
			s.fail("the outer header of the tunnel has %#x", w.TOS)
		}
	}
}
