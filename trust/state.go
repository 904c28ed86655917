package trust

import (
	"net/netip"
	"slices"
	"time"

	"github.com/btns-ipsec/btns/identity"
)

// State is what a place has come to (trust.md §4).
type State string

const (
	StateUnknown  State = "unknown"  // no key is recorded
	StateNew      State = "new"      // a key came once
	StatePinned   State = "pinned"   // it came again
	StateVerified State = "verified" // an operator vouches for it
	StateRotating State = "rotating" // it named a successor
	StateConflict State = "conflict" // another key was refused since it was seen last
	StateRevoked  State = "revoked"  // it was revoked
)

// State derives the state of an address from what is recorded of it.
func (b *Book) State(now time.Time, addr netip.Addr, network string) State {
	p := At(addr, network)
	rs := b.valid(now, p)
	if len(rs) == 0 {
		return StateUnknown
	}
	r := defender(rs)
	if r == nil {
		r = newest(rs)
	}
	if b.revoked(r.Key) != nil {
		return StateRevoked
	}
	if slices.ContainsFunc(b.refusals.at[p], func(f Refused) bool { return f.Last.After(r.LastSeen) }) {
		return StateConflict
	}
	if k := b.find(Place{}, r.Key); k != nil && len(k.Next) > 0 {
		return StateRotating
	}
	switch l := b.level(r); {
	case l >= identity.Verified:
		return StateVerified
	case r.Sessions > 1 || r.has(HandedOver):
		return StatePinned
	}
	return StateNew
}
