package chain

import (
	"fmt"
	"strings"

	"github.com/btns-ipsec/btns/identity"
)

// Fault is what is wrong with a chain of certificates.
type Fault string

const (
	Invalid       Fault = "invalid"        // it cannot be read, is too long, or breaks a rule of RFC 5280
	TooMany       Fault = "too-many"       // certificates
	Misordered    Fault = "misordered"     // the first is not the peer's own
	Expired       Fault = "expired"        // it, or an authority above it
	NotYetValid   Fault = "not-yet-valid"  // or the clock here is wrong
	UnknownIssuer Fault = "unknown-issuer" // nobody in it was issued by an authority that is configured
	OtherID       Fault = "other-id"       // it is not about the identity that the peer asserts
	NotForIKE     Fault = "not-for-ike"    // its issuer did not mean it for this
)

// Error says why a chain does not prove an identity. Its text is for people; peers' octets in it are escaped and bounded.
type Error struct {
	Fault Fault
	Text  string
}

func (e *Error) Error() string { return "chain: " + e.Text }

func fault(f Fault, format string, args ...any) *Error {
	return &Error{f, fmt.Sprintf(format, args...)}
}

// nameText shows a distinguished name.
func nameText(der []byte) string {
	id := identity.ID{Type: identity.IDDN, Data: string(der)}
	return `"` + strings.TrimPrefix(id.String(), "dn:") + `"`
}

// printable is a text of which parts may be the peer's.
func printable(text string) string {
	const most = 200
	clean := func(c rune) rune {
		if c < ' ' || c > '~' {
			return '?'
		}
		return c
	}
	return strings.Map(clean, text[:min(len(text), most)])
}
