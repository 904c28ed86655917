package trust

import (
	"net/netip"
	"slices"

	"github.com/btns-ipsec/btns/identity"
)

// Forget removes what is recorded of an address, in every network, and what was refused there (trust.md §4, transition
// 14).
func (b *Book) Forget(addr netip.Addr) []Change {
	addr = At(addr, "").Addr
	return b.forget(func(p Place) bool { return p.Addr == addr && addr.IsValid() })
}

// ForgetName removes what is recorded of a name.
func (b *Book) ForgetName(name string) []Change {
	return b.forget(func(p Place) bool { return p.Name == name && name != "" })
}

func (b *Book) forget(match func(Place) bool) []Change {
	var gone []*Record
	for p, rs := range b.places {
		if match(p) {
			gone = append(gone, rs...)
		}
	}
	b.refusals.forget(match)
	return b.removeAll(gone, nil, Forgotten)
}

// ForgetKey removes what is recorded of a key, an operator's revocation included. That a key revoked itself is final and
// stays (BTNS-TRUST-44).
func (b *Book) ForgetKey(key identity.Fingerprint) []Change {
	gone := slices.Clone(b.keys[key])
	gone = slices.DeleteFunc(gone, func(r *Record) bool { return r.has(SelfRevoked) })
	return b.removeAll(gone, nil, Forgotten)
}
