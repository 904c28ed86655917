package identity

import "fmt"

// Assurance is how well a peer's key is known: the ladder of BTNS-TRUST-01. Higher includes lower.
type Assurance uint8

const (
	Clear      Assurance = 0  // no protection
	Encrypted  Assurance = 10 // no key, or one that will not come again
	FirstUse   Assurance = 20 // a leap of faith: recorded now
	Continuity Assurance = 30 // the recorded key came again
	Address    Assurance = 40 // the key owns the address (RFC 3972)
	DNS        Assurance = 50 // published under DNSSEC (RFC 4025)
	Verified   Assurance = 60 // an operator, or a PAD entry, vouches for it
)

func (a Assurance) String() string {
	switch a {
	case Clear:
		return "clear"
	case Encrypted:
		return "encrypted"
	case FirstUse:
		return "first-use"
	case Continuity:
		return "continuity"
	case Address:
		return "address"
	case DNS:
		return "dns"
	case Verified:
		return "verified"
	}
	return fmt.Sprintf("assurance(%d)", uint8(a))
}
