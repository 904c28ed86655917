package trust

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/btns-ipsec/btns/identity"
)

// Record is a key seen at a place (BTNS-TRUST-11, BTNS-TRUST-12). One without a place is about the key wherever it comes
// from: a peer behind a NAT or in a recycled range, a key that an operator verified or revoked, the successors it named.
type Record struct {
	// Addr is where the key was seen; invalid for a name, and for the record of the key itself.
	Addr netip.Addr
	// Network tells apart the networks that use the same private address; empty for global addresses.
	Network string
	// Name is what the application asked for, as ParseName returns it; never with an address.
	Name      string
	Key       identity.Fingerprint
	Public    identity.PublicKey // zero while only the fingerprint is known
	Assurance identity.Assurance // the highest that was reached
	Evidence  []Evidence         // oldest first, each kind once
	FirstSeen time.Time
	LastSeen  time.Time
	Sessions  uint32 // that carried packets both ways
	// Inbound: the peer always came to us, we never went to it. Such a record pins nothing that the old key does not
	// defend by being alive.
	Inbound bool
	// Sticky: traffic with this address must be protected.
	Sticky bool
	// Suspended: the peer stopped in good order, so that its silence is no attack; ends with its next session.
	Suspended bool

	// The rest is set in the record of the key itself only.

	// Revoked is when the key was withdrawn; zero: it was not.
	Revoked time.Time
	// Next are the keys that this one named as its successors, in a session that it authenticated.
	Next []Successor
	// Heir is the successor that came into use first, and Retire when this key ends at the latest.
	Heir   identity.Fingerprint
	Retire time.Time
}

// Successor is a key that another one named (BTNS-TRUST-40).
type Successor struct {
	Key  identity.PublicKey
	From time.Time // when it may be used
	Told time.Time // when it was named
}

func (r *Record) place() Place { return Place{r.Addr, r.Network, r.Name} }

// ID is the name of the record in a store: no two records have the same.
func (r Record) ID() string {
	where := "-"
	switch {
	case r.Name != "":
		where = "name=" + r.Name
	case r.Addr.IsValid():
		where = r.Addr.String()
	}
	return fmt.Sprintf("%s|%s|%s", where, r.Network, r.Key)
}

// Verified reports whether an operator vouches for the key at this place.
func (r Record) Verified() bool { return r.Assurance >= identity.Verified }

// Algorithm names the kind of key; empty while only the fingerprint is known.
func (r Record) Algorithm() string { return r.Public.Algorithm() }

// byOperator reports whether a person let the key in here, or vouches for it.
func (r *Record) byOperator() bool {
	return r.Verified() || r.has(Accepted) || r.has(Imported)
}

func (r *Record) has(k EvidenceKind) bool {
	return slices.ContainsFunc(r.Evidence, func(e Evidence) bool { return e.Kind == k })
}

// note adds evidence, to a copy: what was handed out as a Change stays as it is.
func (r *Record) note(k EvidenceKind, now time.Time) {
	if !r.has(k) {
		r.Evidence = append(slices.Clone(r.Evidence), Evidence{k, now})
	}
}

// inherit takes over what is known of o, which is the same peer.
func (r *Record) inherit(o *Record) {
	had := len(r.Evidence)
	for _, e := range o.Evidence {
		r.note(e.Kind, e.At)
	}
	if len(r.Evidence) > had { // a copy, made by note
		slices.SortStableFunc(r.Evidence, func(x, y Evidence) int { return x.At.Compare(y.At) })
	}
	r.Assurance = max(r.Assurance, o.Assurance)
	r.Sticky = r.Sticky || o.Sticky
	r.Inbound = r.Inbound && o.Inbound
	r.Sessions = max(r.Sessions, o.Sessions)
}

// Change is what has to be done to the store.
type Change interface{ change() }

type (
	// Put writes a record, in place of one with the same ID.
	Put struct{ Record Record }
	// Delete removes a record.
	Delete struct{ Record Record }
)

func (Put) change()    {}
func (Delete) change() {}

func compare(a, b *Record) int {
	if c := a.place().compare(b.place()); c != 0 {
		return c
	}
	return slices.Compare(a.Key[:], b.Key[:])
}
