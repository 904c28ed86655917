package host

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"github.com/btns-ipsec/btns/dataplane"
	"github.com/btns-ipsec/btns/dataplane/flow"
	"github.com/btns-ipsec/btns/policy"
	"github.com/btns-ipsec/btns/selector"
)

// The ground is what the SPD says of whole prefixes, whoever is there: Closed where nothing passes, Hold where nothing
// passes without protection. The prefixes of peers lie on it. A plane knows prefixes, not ports: entries about a part of
// the traffic with an address do not make it any stricter, and addresses that an entry lets pass in part are left open, so
// that nobody is locked out by a rule that lets them in (package config warns of such files).

// everywhere is the addresses that can be someone's. Of ::/8 only the prefixes of translators are (RFC 4291 §4,
// RFC 6052 §2.1).
var everywhere = selector.Set{
	selector.Any4(),
	selector.Prefix(netip.MustParsePrefix("64:ff9b::/32")),
	{From: netip.MustParseAddr("100::"), To: netip.MustParseAddr("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"), Ports: selector.AnyPort},
}

// ground reads the SPD. What a host cannot live without is spared: no rule can lock out gateways and resolvers (design:
// sticky without lock-out).
func ground(spd []policy.Entry, spared []netip.Addr) map[netip.Prefix]flow.State {
	left := everywhere
	for _, a := range spared {
		left = left.Subtract(selector.Set{selector.Host(a)})
	}
	out := make(map[netip.Prefix]flow.State)
	for i := range spd {
		e := &spd[i]
		whole, part := breadth(e)
		state := flow.Clear
		switch {
		case e.Action == policy.Discard:
			state = flow.Closed
		case e.Action == policy.Protect && e.Fallback == policy.Require && e.Peer == "":
			state = flow.Hold
		case e.Action != policy.Protect && e.Source == "": // of the built-in ones planes know the narrow ones themselves
		default:
			whole = append(whole, part...)
		}
		if state != flow.Clear {
			for _, s := range left.Intersect(whole) {
				for _, p := range prefixes(s.From, s.To) {
					out[p] = state
				}
			}
		}
		left = left.Subtract(whole)
	}
	return out
}

// breadth divides the remote addresses of an entry into those all of whose traffic it is about, and others.
func breadth(e *policy.Entry) (whole, part selector.Set) {
	local := e.Local.Covers(selector.Any())
	for _, s := range e.Remote {
		narrow := s.Proto != 0
		s.Proto, s.Ports = 0, selector.AnyPort
		if local && !narrow {
			whole = append(whole, s)
		} else {
			part = append(part, s)
		}
	}
	return whole, part
}

// prefixes are those that make up a range of addresses.
func prefixes(from, to netip.Addr) (out []netip.Prefix) {
	for from.IsValid() && !to.Less(from) {
		bits := from.BitLen()
		for bits > 0 {
			p := netip.PrefixFrom(from, bits-1)
			if p.Masked().Addr() != from || to.Less(last(p)) {
				break
			}
			bits--
		}
		p := netip.PrefixFrom(from, bits)
		out = append(out, p)
		from = last(p).Next()
	}
	return out
}

// last is the highest address of p.
func last(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// protects reports whether any traffic with an address is protected by the SPD.
func (h *Host) protects(addr netip.Addr) bool {
	spd := h.policy.SPD()
	for i := range spd {
		e := &spd[i]
		if !e.Remote.ContainsAddr(addr) {
			continue
		}
		if e.Action == policy.Protect {
			return true
		}
		if whole, _ := breadth(e); whole.ContainsAddr(addr) {
			return false
		}
	}
	return false
}

// relay reads the SPD anew and lays what has changed.
func (h *Host) relay() {
	old := h.ground
	h.ground = ground(h.policy.SPD(), h.book.Essentials())
	h.layGround(old)
}

// layGround gives the plane what has changed of the ground, except where a peer lies on it.
func (h *Host) layGround(old map[netip.Prefix]flow.State) {
	for _, p := range sortedPrefixes(old) {
		if _, ok := h.ground[p]; !ok && h.owner(p) == nil {
			h.change(dataplane.SetPrefix{Prefix: p, State: flow.Clear})
		}
	}
	for _, p := range sortedPrefixes(h.ground) {
		if s, ok := old[p]; (!ok || s != h.ground[p]) && h.owner(p) == nil {
			h.change(dataplane.SetPrefix{Prefix: p, State: h.ground[p]})
		}
	}
}

// owner is the peer that decides about exactly this prefix, or nil.
func (h *Host) owner(prefix netip.Prefix) *peer {
	owns := func(p *peer) bool { return p.installed != flow.Clear && slices.Contains(p.prefixes, prefix) }
	if i := slices.IndexFunc(h.named, owns); i >= 0 {
		return h.named[i]
	}
	if p := h.peers[prefix.Addr()]; p != nil && owns(p) {
		return p
	}
	return nil
}

// uncover settles prefixes that have changed hands.
func (h *Host) uncover(gone []netip.Prefix) {
	for _, prefix := range gone {
		c := dataplane.SetPrefix{Prefix: prefix, State: h.ground[prefix]}
		if p := h.owner(prefix); p != nil {
			c.State, c.Local = p.installed, h.insideLocal(p)
		}
		h.change(c)
	}
}

func sortedPrefixes(m map[netip.Prefix]flow.State) []netip.Prefix {
	return slices.SortedFunc(maps.Keys(m), func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), a.Bits()-b.Bits())
	})
}
