package host

import (
	"fmt"
	"strings"
	"time"

	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/trust"
)

// heed acts on what the book has noticed, and tells it.
func (h *Host) heed(now time.Time) {
	for events := h.book.Events(); len(events) > 0; events = h.book.Events() {
		for _, ev := range events {
			h.heedOne(now, ev)
		}
	}
}

func (h *Host) heedOne(now time.Time, ev trust.Event) {
	switch ev := ev.(type) {
	case trust.Lowered:
		h.reassess(now, ev.Key, ev.Why)
	case trust.Raised:
		h.raised(now, ev)
	case trust.Unstuck:
		if ev.Place.Addr.IsValid() {
			h.freed(now, ev.Place.Addr, "nothing that is recorded of this address requires protection any more")
		}
	case trust.Lost:
		for _, s := range h.sortedSessions() {
			if !s.who.Key.IsZero() {
				h.assess(now, s, LessKnown)
			}
		}
	case trust.Revoked:
		h.revoked(now, ev)
	case trust.Retired:
		h.endKey(now, ev.Key, Report{
			Kind: KeyRotated, Level: Info, Reason: trustReason(trust.HandOver),
			Text: fmt.Sprintf("the session ends, since the time of its key is over; its successor is %v", ev.Heir),
		})
	default:
		if r, ok := tellEvent(ev); ok {
			h.report(now, r)
		}
	}
}

func (h *Host) raised(now time.Time, ev trust.Raised) {
	for _, s := range h.withKey(ev.Key) {
		h.assess(now, s, trustReason(trust.ByOperator))
	}
	h.report(now, Report{
		Kind: KeyRaised, Level: Info, Remote: ev.Place.Addr, Key: ev.Key,
		Text: fmt.Sprintf("the assurance of this key is %v from now on", ev.To),
	})
}

func (h *Host) revoked(now time.Time, ev trust.Revoked) {
	r := Report{Kind: KeyRevoked, Level: Warn, Key: ev.Key, Reason: RevokedKey, Text: "the key was revoked by the operator: it is refused wherever it comes from"}
	if ev.ByItself {
		r.Text = "the key was revoked by its own holder, for good: it is refused wherever it comes from"
	}
	h.report(now, r)
	r.Text = "the session ends, since its key was revoked"
	r.Hint = "give that host a new key; after comparing it: btns trust accept HOST KEY"
	h.endKey(now, ev.Key, r)
}

// tellEvent puts into words what asks for nothing but to be told.
func tellEvent(ev trust.Event) (r Report, ok bool) {
	switch ev := ev.(type) {
	case trust.Replaced:
		return Report{
			Kind: KeyReplaced, Level: replacedLevel(ev.Why), Remote: ev.Place.Addr, Key: ev.New, Reason: trustReason(ev.Why),
			Text: fmt.Sprintf("the key %v has taken the place of %v for %v", ev.New, ev.Old, ev.Place),
		}, true
	case trust.ConflictOver:
		return Report{
			Kind: ConflictOver, Level: Info, Remote: ev.Place.Addr, Key: ev.Key,
			Text: fmt.Sprintf("the recorded key of %v is back, after another one was refused in its place", ev.Place),
		}, true
	case trust.Shared:
		return tellShared(ev), true
	case trust.Cloned:
		return tellCloned(ev), true
	case trust.Named:
		return tellNamed(ev), true
	case trust.Succeeded:
		return Report{
			Kind: KeyRotated, Level: Info, Remote: ev.Place.Addr, Key: ev.New, Reason: trustReason(trust.HandOver),
			Text: fmt.Sprintf("the key %v of %v has handed over to %v", ev.Old, ev.Place, ev.New),
		}, true
	}
	return Report{}, false
}

// replacedLevel: what nobody vouched for may be an attack that the mode lets pass.
func replacedLevel(why trust.Why) Level {
	switch why {
	case trust.ByOperator, trust.ByRule, trust.HandOver:
		return Info
	}
	return Warn
}

func tellShared(ev trust.Shared) Report {
	if ev.Place.IsZero() {
		return Report{
			Kind: KeyShared, Level: Warn, Key: ev.Key,
			Text: fmt.Sprintf("this key is used at %d addresses: a load balancer, or copies of one machine", ev.Count),
		}
	}
	return Report{
		Kind: KeyShared, Level: Warn, Remote: ev.Place.Addr,
		Text: fmt.Sprintf("%d keys are used at %v: a NAT or a load balancer, so that a further key is no sign of an attack", ev.Count, ev.Place),
	}
}

func tellCloned(ev trust.Cloned) Report {
	r := Report{
		Kind: KeyCloned, Level: Warn, Remote: ev.Places[0].Addr, Key: ev.Key,
		Text: fmt.Sprintf("this key seems to be alive at %v and at %v at the same time", ev.Places[0], ev.Places[1]),
		Hint: "if these are two machines: one is a copy of the other, and needs a key of its own",
	}
	if ev.Certain {
		r.Level = Alarm
		r.Text = fmt.Sprintf("TWO MACHINES HAVE THE SAME PRIVATE KEY, at %v and at %v: it was copied, or stolen", ev.Places[0], ev.Places[1])
		r.Hint = "give each machine a key of its own; if it was stolen: btns trust revoke " + ev.Key.String()
	}
	return r
}

func tellNamed(ev trust.Named) Report {
	text := "this key takes back the successors that it named"
	if len(ev.Next) > 0 {
		text = "this key names as its successors: " + strings.Join(names(ev.Next), ", ")
	}
	return Report{Kind: KeyRotated, Level: Info, Key: ev.Key, Text: text}
}

func names(keys []identity.Fingerprint) []string {
	out := make([]string, len(keys))
	for i, k := range keys {
		out[i] = k.String()
	}
	return out
}
