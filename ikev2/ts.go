package ikev2

import (
	"net/netip"

	"github.com/btns-ipsec/btns/ikev2/wire"
	"github.com/btns-ipsec/btns/selector"
)

// tsPayload writes selectors (RFC 7296 §3.13); ok is false when there are none, or too many.
func tsPayload(t wire.PayloadType, set selector.Set) (p wire.Payload, ok bool) {
	if len(set) == 0 || len(set) > 255 {
		return p, false
	}
	var ts wire.TS
	for _, s := range set {
		if !s.Valid() {
			return p, false
		}
		w := wire.TrafficSelector{
			Type: wire.TSIPv6Range, Proto: s.Proto, StartPort: s.Ports.From, EndPort: s.Ports.To, Start: s.From, End: s.To,
		}
		if s.From.Is4() {
			w.Type = wire.TSIPv4Range
		}
		ts.Selectors = append(ts.Selectors, w)
	}
	return payload(t, ts), true
}

// setOf reads selectors; those of types that are not address ranges are ignored (RFC 7296 §3.13.1).
func setOf(ts wire.TS) (set selector.Set) {
	for _, w := range ts.Selectors {
		if w.Type != wire.TSIPv4Range && w.Type != wire.TSIPv6Range {
			continue
		}
		s := selector.Selector{
			Proto: w.Proto, Ports: selector.PortRange{From: w.StartPort, To: w.EndPort}, From: w.Start, To: w.End,
		}
		if s.Proto == 0 && s.Ports != selector.Opaque {
			s.Ports = selector.AnyPort // RFC 7296 §3.13.1: nothing else makes sense without a protocol
		}
		if s.Valid() {
			set = append(set, s)
		}
	}
	return set
}

// oneAddress returns the single address of all selectors: what the sides of a transport mode child name through a NAT
// (RFC 7296 §2.23.1).
func oneAddress(set selector.Set) (a netip.Addr, ok bool) {
	for i, s := range set {
		if s.From != s.To || i > 0 && s.From != a {
			return netip.Addr{}, false
		}
		a = s.From
	}
	return a, len(set) > 0
}

// withAddress is set with every address replaced.
func withAddress(set selector.Set, a netip.Addr) selector.Set {
	a = a.Unmap().WithZone("")
	out := make(selector.Set, len(set))
	for i, s := range set {
		s.From, s.To = a, a
		out[i] = s
	}
	return out
}

// views is the selectors of a child as this host sees them, and the two addresses as the peer saw them.
type views struct {
	local, remote       selector.Set
	sawLocal, sawRemote netip.Addr
}

// substitute puts real addresses in the place of those that the peer behind, or before, a NAT has named (RFC 7296
// §2.23.1). Only transport mode needs it, and only where a NAT is.
func substitute(local, remote selector.Set, nat NAT, at path) views {
	v := views{local: local, remote: remote}
	if !nat.Us && !nat.Peer {
		return v
	}
	l, okL := oneAddress(local)
	r, okR := oneAddress(remote)
	if !okL || !okR {
		return v
	}
	if a := at.remote.Addr().Unmap(); nat.Peer && r.Is4() == a.Is4() {
		v.remote = withAddress(remote, a)
	}
	if a := at.local.Addr().Unmap(); nat.Us && l.Is4() == a.Is4() {
		v.local = withAddress(local, a)
	}
	nowLocal, _ := oneAddress(v.local)
	nowRemote, _ := oneAddress(v.remote)
	if nowLocal != l || nowRemote != r {
		v.sawLocal, v.sawRemote = l, r
	}
	return v
}
