//go:build linux

package tun

import (
	"net/netip"

	"github.com/btns-ipsec/btns/dataplane/flow"
)

// There may be a prefix for each of very many peers. What is known of each is kept in as few octets as that takes.

// prefixKey is a prefix in 17 octets: an IPv4 one counts as 96 bits longer.
type prefixKey struct {
	addr [16]byte
	bits uint8
}

func keyOf(p netip.Prefix) prefixKey {
	k := prefixKey{p.Addr().As16(), uint8(p.Bits())}
	if p.Addr().Is4() {
		k.bits += 96
	}
	return k
}

func (k prefixKey) prefix() netip.Prefix {
	a := netip.AddrFrom16(k.addr)
	if a.Is4In6() && k.bits >= 96 {
		return netip.PrefixFrom(a.Unmap(), int(k.bits)-96)
	}
	return netip.PrefixFrom(a, int(k.bits))
}

// routes are the prefixes that the host routes to the device, and how.
type routes struct {
	at     map[prefixKey]routeState
	locals []netip.Addr // this host's own; at 0 the invalid one
	number map[netip.Addr]uint16
}

// routeState is a prefixChange without its prefix, addresses as numbers.
type routeState struct {
	local, asked uint16
	state        flow.State
}

func newRoutes() routes {
	return routes{at: make(map[prefixKey]routeState), locals: []netip.Addr{{}}, number: map[netip.Addr]uint16{{}: 0}}
}

func (r *routes) get(p netip.Prefix) (c prefixChange, ok bool) {
	s, ok := r.at[keyOf(p)]
	if !ok {
		return prefixChange{}, false
	}
	return r.change(p, s), true
}

func (r *routes) change(p netip.Prefix, s routeState) prefixChange {
	return prefixChange{prefix: p, state: s.state, local: r.locals[s.local], asked: r.locals[s.asked]}
}

func (r *routes) set(c prefixChange) {
	r.at[keyOf(c.prefix)] = routeState{r.numberOf(c.local), r.numberOf(c.asked), c.state}
}

// numberOf is the number of an address of this host. One too many has none: then the system is asked again.
func (r *routes) numberOf(a netip.Addr) uint16 {
	n, ok := r.number[a]
	if !ok && len(r.locals) < 1<<16 {
		n = uint16(len(r.locals))
		r.locals, r.number[a] = append(r.locals, a), n
	}
	return n
}

func (r *routes) remove(p netip.Prefix) { delete(r.at, keyOf(p)) }

// list is all of them, in no order.
func (r *routes) list() []prefixChange {
	out := make([]prefixChange, 0, len(r.at))
	for k, s := range r.at {
		out = append(out, r.change(k.prefix(), s))
	}
	return out
}
