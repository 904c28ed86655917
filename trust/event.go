package trust

import "github.com/btns-ipsec/btns/identity"

// Event is something that the book noticed, or that one of its calls brought about, and that somebody has to act on or
// to be told of. [Book.Events] hands them out.
type Event interface{ event() }

type (
	// Lowered says that what was known of a key is known no more: its sessions have to be assessed again, and end where
	// a policy demands more than is left (BTNS-TRUST-04). A zero Place means all its sessions.
	Lowered struct {
		Place Place
		Key   identity.Fingerprint
		From  identity.Assurance
		Why   Why
	}
	// Raised says that more is known of a key; a zero Place means wherever it is.
	Raised struct {
		Place Place
		Key   identity.Fingerprint
		To    identity.Assurance
	}
	// Unstuck says that traffic with an address need not be protected any more on account of this key.
	Unstuck struct {
		Place Place
		Key   identity.Fingerprint
		Why   Why
	}
	// Replaced says that one key took the place of another.
	Replaced struct {
		Place    Place
		Old, New identity.Fingerprint
		Why      Why
	}
	// ConflictOver says that the recorded key is back after another one was refused in its place (trust.md §4,
	// transition 12).
	ConflictOver struct {
		Place Place
		Key   identity.Fingerprint
	}
	// Shared says that an address is used by more keys than a host has (BTNS-TRUST-15), or, with a Key and no Place, that
	// a key is used at more addresses: a NAT, a load balancer.
	Shared struct {
		Place Place
		Key   identity.Fingerprint
		Count int
	}
	// Cloned says that one key is alive in two places at the same time: two machines have the same private key. Certain
	// tells instances that name themselves from addresses that only look like two machines.
	Cloned struct {
		Key     identity.Fingerprint
		Places  [2]Place
		Certain bool
	}
	// Named says that a key named its successors, or that it takes back those that it named.
	Named struct {
		Key  identity.Fingerprint
		Next []identity.Fingerprint
	}
	// Succeeded says that a successor came into use at a place.
	Succeeded struct {
		Place    Place
		Old, New identity.Fingerprint
	}
	// Retired says that a key is accepted no more, since its successor is in use.
	Retired struct{ Key, Heir identity.Fingerprint }
	// Revoked says that a key was revoked: its sessions end at once.
	Revoked struct {
		Key      identity.Fingerprint
		ByItself bool // by a statement that it signed, not by an operator
	}
	// Lost says that events were lost, because nobody took them: assess every session again.
	Lost struct{ Count int }
)

func (Lowered) event()      {}
func (Raised) event()       {}
func (Unstuck) event()      {}
func (Replaced) event()     {}
func (ConflictOver) event() {}
func (Shared) event()       {}
func (Cloned) event()       {}
func (Named) event()        {}
func (Succeeded) event()    {}
func (Retired) event()      {}
func (Revoked) event()      {}
func (Lost) event()         {}

// Why is the reason of an event.
type Why string

const (
	Forgotten  Why = "forgotten"   // by an operator
	Aged       Why = "aged"        // not seen for Config.Life
	Superseded Why = "superseded"  // by another key
	Recycled   Why = "recycled"    // the address belongs to a range that was declared recycled
	HandOver   Why = "handed-over" // by the old key
	ByOperator Why = "operator"    // accepted, verified, imported
	ByRule     Why = "rule"        // a PAD entry
	ModeOff    Why = "mode-off"    // the mode tolerates changed keys
	OldIsGone  Why = "old-is-gone" // the old one only ever came to us, and was not alive
	Withdraw   Why = "revoked"     // the key was revoked
)

const maxEvents = 1024

// Events returns what happened since it was asked last, oldest first. Ask after each call that changes the book.
func (b *Book) Events() []Event {
	out := b.events
	if b.lost > 0 {
		out = append(out, Lost{b.lost})
	}
	b.events, b.lost = nil, 0
	return out
}

func (b *Book) tell(e Event) {
	if len(b.events) >= maxEvents {
		b.lost++
		return
	}
	b.events = append(b.events, e)
}

// lower tells that r is gone, or worth less. It is called while r is out of the book or already revoked.
func (b *Book) lower(r *Record, from identity.Assurance, why Why) {
	b.tell(Lowered{r.place(), r.Key, from, why})
	if r.Verified() && !r.place().IsZero() && !b.vouched(r.Key) {
		b.tell(Lowered{Place{}, r.Key, from, why}) // it was verified everywhere on account of this place
	}
	if r.Sticky && !r.Suspended && why != Superseded {
		b.tell(Unstuck{r.place(), r.Key, why})
	}
}
