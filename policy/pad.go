package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/selector"
)

// Kind is how a PAD entry recognises a peer, in the order in which they are searched (BTNS-CORE-04, BTNS-CORE-05).
type Kind uint8

const (
	ByID   Kind = iota + 1 // by the ID it asserts; every other kind is an RFC 5386 or RFC 7619 one
	ByKey                  // PUBLICKEY: one of certain keys
	Null                   // no authentication at all (BTNS-NULL-07)
	AnyKey                 // PUBLICKEY:any, the wildcard
)

func (k Kind) String() string {
	switch k {
	case ByID:
		return "id"
	case ByKey:
		return "key"
	case Null:
		return "null"
	case AnyKey:
		return "any key"
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// Search is how the SPD is searched for a child SA of the peer (BTNS-CORE-15).
type Search uint8

const (
	ByAddress Search = iota // by the traffic selectors
	ByName                  // only entries whose Peer is the name of the PAD entry
)

// PADEntry is one entry of the PAD.
type PADEntry struct {
	Name string
	Kind Kind
	// ID, or else IDs, is for ByID.
	ID  identity.ID
	IDs IDRange
	// Keys and Fingerprints are what a peer may sign with; for ByID and ByKey.
	Keys         []identity.PublicKey
	Fingerprints []identity.Fingerprint
	PSK          []byte   // shared secret, for ByID; never printed
	Anchors      []string // names of trust anchors whose certificates prove the ID; for ByID
	// Addr, when valid, finds a ByKey entry for a peer that sends no key: a key must still be one of Keys.
	Addr netip.Addr
	// Constraint is the selectors that the peer may have on its own side. Nil: for ByID anything, for the other kinds
	// the address that it speaks from (BTNS-CORE-67).
	Constraint selector.Set
	// Here keeps the peer to the address that it speaks from, whatever else it may have.
	Here   bool
	Search Search
}

// Roams reports whether the entry says who its peers are and nothing of where: each has the address that it speaks from, and
// none that belongs to others.
func (e *PADEntry) Roams() bool { return e != nil && e.Here && e.Constraint == nil }

// IDText is the identities that the entry is about, for people; empty for entries of other kinds.
func (e *PADEntry) IDText() string {
	switch {
	case !e.ID.IsZero():
		return e.ID.String()
	case !e.IDs.IsZero():
		return e.IDs.String()
	}
	return ""
}

// String names the entry and shows no secret.
func (e *PADEntry) String() string { return fmt.Sprintf("%s (%v)", e.Name, e.Kind) }

// GoString is String, so that %#v cannot leak the shared secret.
func (e PADEntry) GoString() string { return e.String() }

func (e *PADEntry) hasKey(k identity.PublicKey) bool {
	return slices.Contains(e.Keys, k) || slices.Contains(e.Fingerprints, k.Fingerprint())
}

// Method is a way to authenticate, in classes: numbered as in package ikev2.
type Method uint8

const (
	Signature Method = iota + 1
	SharedKey
	NullAuth
)

// Asserted is what a peer says about itself before anything is verified.
type Asserted struct {
	ID     identity.ID
	Method Method
	Key    identity.PublicKey // from CERT payloads; zero without one
	Chain  bool               // the key came in an X.509 certificate, with or without others above it
	Addr   netip.Addr         // where it speaks from
}

// RejectError says why no PAD entry takes a peer in: the IKE SA is refused (BTNS-CORE-07, BTNS-CORE-09).
type RejectError struct {
	ID    identity.ID
	Entry string // that matched, if one did
	Err   error
}

func (e *RejectError) Error() string {
	if e.Entry == "" {
		return fmt.Sprintf("policy: peer refused: %v (unproven ID %v)", e.Err, e.ID)
	}
	return fmt.Sprintf("policy: peer refused by PAD entry %q: %v (unproven ID %v)", e.Entry, e.Err, e.ID)
}

func (e *RejectError) Unwrap() error { return e.Err }

var (
	ErrNoEntry   = errors.New("no entry matches")
	ErrMethod    = errors.New("this way of authentication is not accepted there")
	ErrWrongKey  = errors.New("the key is not one of those configured")
	ErrNoKey     = errors.New("no key was sent and none is configured")
	ErrNoChain   = errors.New("no certificate was sent that could prove the ID")
	ErrNoNull    = errors.New("peers without authentication are not accepted")
	ErrNoUnknown = errors.New("peers that nobody vouches for are not accepted")
)

// FindPAD returns the entry that a peer has to satisfy. What remains is the proof: the signature must verify under the
// asserted key, or one of the entry's Keys when none was sent, or the shared secret must fit. When that fails, no other
// entry is tried (BTNS-CORE-07).
func (p *Policy) FindPAD(a Asserted) (*PADEntry, error) {
	if a.Method == NullAuth { // the ID is not looked at (BTNS-NULL-05)
		for i := range p.pad {
			if p.pad[i].Kind == Null {
				return &p.pad[i], nil
			}
		}
		return nil, &RejectError{a.ID, "", ErrNoNull}
	}
	for i := range p.pad { // first pass: the asserted ID (BTNS-CORE-06)
		if e := &p.pad[i]; e.Kind == ByID && e.isAbout(a.ID) {
			if err := e.accepts(a); err != nil {
				return nil, &RejectError{a.ID, e.Name, err}
			}
			return e, nil
		}
	}
	if a.Method != Signature { // BTNS-CORE-10
		return nil, &RejectError{a.ID, "", ErrNoEntry}
	}
	return p.findKey(a)
}

// isAbout reports whether an asserted ID is one of the entry's.
func (e *PADEntry) isAbout(id identity.ID) bool {
	if !e.ID.IsZero() {
		return e.ID.Matches(id)
	}
	return e.IDs.Matches(id)
}

// accepts says why a ByID entry cannot authenticate what was asserted, or nil.
func (e *PADEntry) accepts(a Asserted) error {
	switch {
	case a.Method == SharedKey:
		if len(e.PSK) == 0 {
			return ErrMethod
		}
	case e.anchored(a):
	case len(e.Keys) == 0 && len(e.Fingerprints) == 0 && len(e.Anchors) > 0:
		return ErrNoChain
	case len(e.Keys) == 0 && len(e.Fingerprints) == 0:
		return ErrMethod
	case a.Key.IsZero():
		if len(e.Keys) == 0 {
			return ErrNoKey
		}
	case !e.hasKey(a.Key):
		return ErrWrongKey
	}
	return nil
}

// findKey is the second pass: the peer's identity is its key (BTNS-CORE-06).
func (p *Policy) findKey(a Asserted) (*PADEntry, error) {
	for i := range p.pad {
		e := &p.pad[i]
		switch {
		case a.Key.IsZero():
			if e.Kind == ByKey && e.Addr.IsValid() && e.Addr == a.Addr && len(e.Keys) > 0 {
				return e, nil
			}
		case e.Kind == AnyKey, e.Kind == ByKey && e.hasKey(a.Key):
			return e, nil
		}
	}
	if a.Key.IsZero() {
		return nil, &RejectError{a.ID, "", ErrNoKey}
	}
	return nil, &RejectError{a.ID, "", ErrNoUnknown}
}
