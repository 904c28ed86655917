package trust

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/btns-ipsec/btns/identity"
)

// KeyChangedError says that another key is recorded for an address: possibly an attack (BTNS-TRUST-31).
type KeyChangedError struct {
	Addr  netip.Addr
	Want  identity.Fingerprint // recorded; the one seen last when there are several
	Got   identity.Fingerprint
	Since time.Time // when Want was first seen
	// Inbound: Want only ever came to us. The new key may have the address when the old one is not alive; ask again
	// with Query.OldGone then.
	Inbound bool
	Name    string // what the application asked for, when the key is recorded for that
}

func (e *KeyChangedError) Error() string {
	who := e.Name
	if who == "" {
		who = e.Addr.String()
	}
	return fmt.Sprintf("trust: key of %s changed: recorded since %s is %v, offered is %v",
		who, e.Since.UTC().Format(time.DateOnly), e.Want, e.Got)
}

// UnknownKeyError says that the mode lets no unknown key in.
type UnknownKeyError struct {
	Addr netip.Addr
	Got  identity.Fingerprint
	Mode Mode
}

func (e *UnknownKeyError) Error() string {
	return fmt.Sprintf("trust: mode %v does not let in the unknown key %v of %v", e.Mode, e.Got, e.Addr)
}

// DowngradeError says that a peer whose key is recorded came without a key (BTNS-NULL-14).
type DowngradeError struct {
	Addr  netip.Addr
	Want  identity.Fingerprint
	Since time.Time
}

func (e *DowngradeError) Error() string {
	return fmt.Sprintf("trust: %v came without a key; recorded since %s is %v",
		e.Addr, e.Since.UTC().Format(time.DateOnly), e.Want)
}

// RevokedKeyError says that a peer came with a key that was revoked. It wins over everything that speaks for the key
// (BTNS-TRUST-44).
type RevokedKeyError struct {
	Addr  netip.Addr
	Key   identity.Fingerprint
	Since time.Time // when it was revoked
}

func (e *RevokedKeyError) Error() string {
	return fmt.Sprintf("trust: the key %v of %v was revoked on %s", e.Key, e.Addr, e.Since.UTC().Format(time.DateOnly))
}

var (
	// ErrFull says that the book has no room that a new key may take (BTNS-TRUST-17).
	ErrFull = errors.New("trust: no room for another record")
	// ErrNothingRefused says that there is no refused key to accept.
	ErrNothingRefused = errors.New("trust: no key was refused there")
	// ErrNoRecord says that nothing is recorded there.
	ErrNoRecord = errors.New("trust: nothing is recorded there")
	// ErrSeveral says that more than one key is recorded there, so that one has to be named.
	ErrSeveral = errors.New("trust: several keys are recorded there")
	// ErrRevoked says that a key was revoked, so that nothing can be said for it.
	ErrRevoked = errors.New("trust: the key is revoked")
)

// Mode says what becomes of keys that are not recorded, and of changed ones (BTNS-TRUST-10).
type Mode uint8

const (
	AcceptNew Mode = iota // record unknown keys, refuse changed ones
	Strict                // refuse both
	Ask                   // as Strict, but unknown keys are remembered until an operator accepts them
	Off                   // record both, except in the place of a verified one
)

func (m Mode) String() string {
	switch m {
	case AcceptNew:
		return "accept-new"
	case Strict:
		return "strict"
	case Ask:
		return "ask"
	case Off:
		return "off"
	}
	return fmt.Sprintf("mode(%d)", uint8(m))
}

// ParseMode reads what String writes.
func ParseMode(s string) (Mode, error) {
	for m := AcceptNew; m <= Off; m++ {
		if m.String() == s {
			return m, nil
		}
	}
	return 0, fmt.Errorf("trust: no mode %q", s)
}
