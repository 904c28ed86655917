package selector

import "net/netip"

// maxPieces bounds what one operation can produce. A result that would be longer is cut, hence smaller than exact:
// callers grant what these functions return, so too little is the safe side.
const maxPieces = 1024

// Intersect is what both selectors have; ok is false when that is nothing.
func (s Selector) Intersect(o Selector) (r Selector, ok bool) {
	if s.From.Is4() != o.From.Is4() {
		return r, false
	}
	r = Selector{Proto: s.Proto, From: maxAddr(s.From, o.From), To: minAddr(s.To, o.To)}
	if r.From.Compare(r.To) > 0 {
		return Selector{}, false
	}
	switch { // 0 is any and narrows to the specific one (RFC 7296 §2.9)
	case s.Proto == 0:
		r.Proto = o.Proto
	case o.Proto != 0 && o.Proto != s.Proto:
		return Selector{}, false
	}
	if r.Ports, ok = s.Ports.intersect(o.Ports); !ok {
		return Selector{}, false
	}
	return r, true
}

func (p PortRange) intersect(o PortRange) (PortRange, bool) {
	switch {
	case p == AnyPort:
		return o, true
	case o == AnyPort || p == o:
		return p, true
	case p == Opaque || o == Opaque:
		return PortRange{}, false
	}
	r := PortRange{max(p.From, o.From), min(p.To, o.To)}
	return r, r.From <= r.To
}

// subtract appends p without o. What remains of AnyPort keeps the hidden ports unless o has them.
func (p PortRange) subtract(o PortRange) []PortRange {
	i, ok := p.intersect(o)
	if !ok {
		return []PortRange{p}
	}
	switch {
	case i == p:
		return nil
	case i == Opaque: // all ports but the hidden ones: two halves, neither of which is AnyPort
		return []PortRange{{0, 32767}, {32768, 65535}}
	}
	var out []PortRange
	if p.From < i.From {
		out = append(out, PortRange{p.From, i.From - 1})
	}
	if i.To < p.To {
		out = append(out, PortRange{i.To + 1, p.To})
	}
	if p == AnyPort {
		out = append(out, Opaque)
	}
	return out
}

// usual are the protocols that remain of "any" when one of them is taken away: a selector has no ranges of protocols,
// and 254 selectors do not fit beside others in a payload. What is not listed is not granted then.
var usual = [...]uint8{ICMP, 2, 4, TCP, UDP, 33, 41, 46, 47, ICMPv6, 89, 103, 112, 115, SCTP, 136}

// subtract appends to out what s has and o has not, in disjoint pieces: exactly, except that "any protocol" without one
// of them is the other usual protocols.
func (s Selector) subtract(o Selector, out Set) Set {
	i, ok := s.Intersect(o)
	if !ok {
		return append(out, s)
	}
	if s.From.Less(i.From) {
		below := s
		below.To = i.From.Prev()
		out = append(out, below)
	}
	if i.To.Less(s.To) {
		above := s
		above.From = i.To.Next()
		out = append(out, above)
	}
	middle := s
	middle.From, middle.To = i.From, i.To
	if s.Proto == 0 && o.Proto != 0 {
		for _, p := range usual {
			if p == o.Proto || p == ICMP && !s.From.Is4() || p == ICMPv6 && s.From.Is4() {
				continue
			}
			other := middle
			other.Proto = p
			out = append(out, other)
		}
		middle.Proto = o.Proto
	}
	for _, p := range s.Ports.subtract(o.Ports) {
		middle.Ports = p
		out = append(out, middle)
	}
	return out
}

// Intersect is what both sets have, in the order of s.
func (s Set) Intersect(o Set) Set {
	var out Set
	for _, a := range s {
		for _, b := range o {
			if r, ok := a.Intersect(b); ok && len(out) < maxPieces && !out.has(r) {
				out = append(out, r)
			}
		}
	}
	return out
}

// Subtract is what s has and o has not, in the order of s. It is never more than that, and less only where "any
// protocol" loses a single one: of the others the usual protocols remain.
func (s Set) Subtract(o Set) Set {
	for _, b := range o {
		var out Set
		for _, a := range s {
			if len(out) < maxPieces {
				out = a.subtract(b, out)
			}
		}
		s = out[:min(len(out), maxPieces):min(len(out), maxPieces)]
	}
	return s
}

// Overlaps reports whether the sets have anything in common.
func (s Set) Overlaps(o Set) bool {
	for _, a := range s {
		for _, b := range o {
			if _, ok := a.Intersect(b); ok {
				return true
			}
		}
	}
	return false
}

// Covers reports whether s has everything that o has. It may miss that selectors of single protocols add up to any.
func (s Set) Covers(o Set) bool {
	for _, b := range o {
		rest := Set{b}
		for _, a := range s {
			if a.Proto != 0 && b.Proto == 0 {
				continue // exact only without splitting "any protocol"
			}
			if rest = rest.Subtract(Set{a}); len(rest) >= maxPieces {
				return false
			}
		}
		if len(rest) > 0 {
			return false
		}
	}
	return true
}

func (s Set) has(x Selector) bool {
	for _, a := range s {
		if i, ok := a.Intersect(x); ok && i == x {
			return true
		}
	}
	return false
}

// Narrow is what a responder that allows allowed answers to an offer (RFC 7296 §2.9): a subset of both. Selectors within
// others are left out. With firstIsTrigger the selector that holds the first offered one, if it is allowed, leads.
func Narrow(offered, allowed Set, firstIsTrigger bool) Set {
	all := offered.Intersect(allowed)
	var out Set
	for i, a := range all {
		if !all[i+1:].has(a) && !out.has(a) {
			out = append(out, a)
		}
	}
	if !firstIsTrigger || len(offered) == 0 {
		return out.Wire()
	}
	for i, a := range out {
		if (Set{a}).Overlaps(offered[:1]) {
			out[0], out[i] = out[i], out[0]
			break
		}
	}
	return out.Wire()
}

// Wire is the first 255 selectors of the set: more do not fit in a payload (RFC 7296 §3.13).
func (s Set) Wire() Set {
	n := min(len(s), 255)
	return s[:n:n]
}

func maxAddr(a, b netip.Addr) netip.Addr {
	if a.Less(b) {
		return b
	}
	return a
}

func minAddr(a, b netip.Addr) netip.Addr {
	if b.Less(a) {
		return b
	}
	return a
}
