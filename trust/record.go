package trust

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/btns-ipsec/btns/identity"
)

// Record is a key seen at an address (BTNS-TRUST-11, BTNS-TRUST-12).
type Record struct {
	// Addr is where the key was seen; invalid for a peer that came from behind a NAT, which is known by its key only.
	Addr netip.Addr
	// Network tells apart the networks that use the same private address; empty for global addresses.
	Network   string
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
}

// Evidence is one reason to believe that a key belongs where it was seen.
type Evidence struct {
	Kind EvidenceKind
	At   time.Time
}

// EvidenceKind is the kind of an [Evidence].
type EvidenceKind string

const (
	Seen     EvidenceKind = "seen"     // it came first: a leap of faith
	Again    EvidenceKind = "again"    // it came again
	Accepted EvidenceKind = "accepted" // an operator let it replace another, or let it in
	Compared EvidenceKind = "compared" // an operator compared its name out of band
)

// Place is where a key is looked for.
type Place struct {
	Addr    netip.Addr
	Network string
}

func (r *Record) place() Place { return Place{r.Addr, r.Network} }

// ID is the name of the record in a store: no two records have the same.
func (r Record) ID() string {
	addr := "-"
	if r.Addr.IsValid() {
		addr = r.Addr.String()
	}
	return fmt.Sprintf("%s|%s|%s", addr, r.Network, r.Key)
}

// Verified reports whether an operator vouches for the key.
func (r Record) Verified() bool { return r.Assurance >= identity.Verified }

func (r *Record) note(k EvidenceKind, now time.Time) {
	for _, e := range r.Evidence {
		if e.Kind == k {
			return
		}
	}
	r.Evidence = append(r.Evidence[:len(r.Evidence):len(r.Evidence)], Evidence{k, now})
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

var scoped = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("fc00::/7"), netip.MustParsePrefix("fe80::/10"),
}

// Scoped reports whether an address means different hosts in different networks: private, shared and link-local ones.
func Scoped(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	return slices.ContainsFunc(scoped, func(p netip.Prefix) bool { return p.Contains(a) })
}

// At is the place of an address, seen from a network.
func At(a netip.Addr, network string) Place {
	if !a.IsValid() || !Scoped(a) {
		network = ""
	}
	return Place{a.Unmap().WithZone(""), network}
}

func compare(a, b *Record) int {
	if c := a.Addr.Compare(b.Addr); c != 0 {
		return c
	}
	if c := strings.Compare(a.Network, b.Network); c != 0 {
		return c
	}
	return slices.Compare(a.Key[:], b.Key[:])
}
