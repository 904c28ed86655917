package host

import (
	"net/netip"
	"slices"
	"time"

	"github.com/btns-ipsec/btns/selector"
)

// maxPinned is how many holes others' addresses may make in what a peer asks for: a child has at most 255 selectors.
const maxPinned = 32

// pinnedByOthers are the addresses among what an unnamed peer is granted that are recorded for other keys: each pin is an
// entry of the PAD that the wildcard cannot reach (BTNS-TRUST-21, BTNS-CORE-11). Whether the peer may have the address
// at which it was authenticated has been judged with its key.
func (h *Host) pinnedByOthers(now time.Time, s *session, granted selector.Set) (held selector.Set) {
	own := selector.Set{selector.Host(s.remote.Addr())}
	others := granted.Subtract(own)
	if s.named || len(others) == 0 {
		return nil
	}
	key := s.who.Key.Fingerprint()
	if addrs, ok := hosts(others); ok { // the book is asked for each, which is cheaper than all its pins
		for _, a := range addrs {
			if h.book.Pinned(now, a, h.around.Network, key) {
				held = append(held, selector.Host(a))
			}
		}
		return held
	}
	for _, pin := range h.book.Pins(now, h.around.Network) {
		if others.ContainsAddr(pin.Addr) && !slices.Contains(pin.Keys, key) {
			held = append(held, selector.Host(pin.Addr))
		}
	}
	return held
}

// hosts are the addresses of a set that is about single ones only.
func hosts(s selector.Set) (out []netip.Addr, ok bool) {
	for _, x := range s {
		p, whole := x.Prefix()
		if !whole || !p.IsSingleIP() {
			return nil, false
		}
		out = append(out, p.Addr())
	}
	return out, true
}
