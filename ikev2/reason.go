package ikev2

import "fmt"

// Why a message was dropped or refused, or what was noticed.
const (
	NoReason        Reason = iota
	Malformed              // cannot be read, before any key was used
	BadSource              // from port 0, a multicast or unspecified address
	BadVersion             // higher major version (RFC 7296 §2.5)
	UnknownSA              // no IKE SA has the SPI
	StaleID                // message ID that is not expected, or a response to nothing
	Replayed               // the last request again: answered from the cache
	BadICV                 // not authentic
	BadFragment            // RFC 7383 §2.6
	Unexpected             // exchange that does not fit the state
	BadSyntax              // authentic, but malformed inside
	CriticalPayload        // unknown payload marked critical (RFC 7296 §2.5)
	CookieSent             // asked for a cookie (RFC 7296 §2.6)
	BadCookie              // cookie that is not ours, or too old
	TooManyHalfOpen        // limit of half-open IKE SAs, total or of a prefix
	TooManySAs             // limit of IKE SAs
	Throttled              // answer suppressed by a rate limit
	NoProposal             // no acceptable transforms
	OtherKE                // another key exchange method was asked for (RFC 7296 §1.2)
	BadPublicValue         // key exchange value that fails the checks of RFC 6989
	Expired                // half-open IKE SA that nobody completed
	BadAuth                // AUTH does not verify, or no credential fits
	RefusedPeer            // the judge of peers said no
	RefusedChild           // the judge of children said no, or no transforms fit
	PeerError              // error notify in a protected message
	Hint                   // unprotected notify: never trusted (RFC 7296 §2.21.4)
	NoAnswer               // retransmissions ended
	Collision              // TEMPORARY_FAILURE sent (RFC 7296 §2.25)
	LifetimeEnded          // hard lifetime
	BadStatement           // private notify between btns hosts that cannot be read
	Internal               // entropy or cryptography failed here
	reasons
)

// Reasons is how many there are.
const Reasons = int(reasons)

var reasonNames = [...]string{
	"none", "malformed", "bad-source", "bad-version", "unknown-sa", "stale-id", "replayed", "bad-icv", "bad-fragment", "unexpected",
	"bad-syntax", "critical-payload", "cookie-sent", "bad-cookie", "too-many-half-open", "too-many-sas", "throttled", "no-proposal",
	"other-ke", "bad-public-value", "expired", "bad-auth", "refused-peer", "refused-child", "peer-error", "hint", "no-answer",
	"collision", "lifetime-ended", "bad-statement", "internal",
}

func (r Reason) String() string {
	if int(r) < len(reasonNames) {
		return reasonNames[r]
	}
	return fmt.Sprintf("reason-%d", uint8(r))
}
