package trust

import (
	"net/netip"
	"slices"
	"time"

	"github.com/btns-ipsec/btns/identity"
)

// Pin is an address that belongs to certain keys.
type Pin struct {
	Addr netip.Addr
	Keys []identity.Fingerprint
}

// Pins returns the addresses that only recorded keys may have, as seen from a network. Each is a PUBLICKEY entry of the
// PAD whose child constraint is the address, so that the wildcard entry cannot reach it (BTNS-TRUST-21, BTNS-CORE-11).
func (b *Book) Pins(now time.Time, network string) []Pin {
	var out []Pin
	for p := range b.places {
		if p.Name != "" || p != At(p.Addr, network) && p.Network != "" {
			continue
		}
		if keys := b.holders(now, p); len(keys) > 0 {
			out = append(out, Pin{p.Addr, keys})
		}
	}
	slices.SortFunc(out, func(x, y Pin) int { return x.Addr.Compare(y.Addr) })
	return out
}

// Pinned reports whether an address belongs to other keys than this one, so that it may not be in the selectors of a
// child SA of this one.
func (b *Book) Pinned(now time.Time, addr netip.Addr, network string, key identity.Fingerprint) bool {
	keys := b.holders(now, At(addr, network))
	return len(keys) > 0 && !slices.Contains(keys, key)
}

// holders are the keys that have an address for themselves, those that they named as successors included.
func (b *Book) holders(now time.Time, p Place) []identity.Fingerprint {
	rs := b.valid(now, p)
	if defender(rs) == nil || b.crowded(now, p) {
		return nil
	}
	var keys []identity.Fingerprint
	for _, r := range rs {
		keys = append(keys, r.Key)
		if k := b.find(Place{}, r.Key); k != nil {
			for _, s := range k.Next {
				if f := s.Key.Fingerprint(); b.names(now, r.Key, f) {
					keys = append(keys, f)
				}
			}
		}
	}
	slices.SortFunc(keys, func(x, y identity.Fingerprint) int { return slices.Compare(x[:], y[:]) })
	return slices.Compact(keys)
}
