package host

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/btns-ipsec/btns/dataplane"
	"github.com/btns-ipsec/btns/dataplane/flow"
	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/ikev2"
	"github.com/btns-ipsec/btns/trust"
)

// What becomes of sessions when what is known of their keys changes. A level never falls silently: a session that no
// longer reaches what its policy demands ends, and the fall of any other is told (BTNS-TRUST-04).

// withKey returns the sessions whose peer has proven a key, those that are coming up included.
func (h *Host) withKey(key identity.Fingerprint) (out []*session) {
	for _, s := range h.sortedSessions() {
		if !s.who.Key.IsZero() && s.who.Key.Fingerprint() == key {
			out = append(out, s)
		}
	}
	return out
}

// reassess asks trust again about the sessions of a key.
func (h *Host) reassess(now time.Time, key identity.Fingerprint, why trust.Why) {
	for _, s := range h.withKey(key) {
		h.assess(now, s, trustReason(why))
	}
}

// dismissed reports whether a session counts for nothing any more: its end is on the way.
func (s *session) dismissed() bool { return s.up && s.peer == nil }

// assess asks trust again about a session.
func (h *Host) assess(now time.Time, s *session, reason Reason) {
	if s.dismissed() {
		return
	}
	v := h.book.Assess(now, h.query(s, s.who, s.named))
	var unknown *trust.UnknownKeyError
	switch {
	case errors.As(v.Refuse, &unknown): // that is about who may come, and this one is here
		v.Assurance = identity.FirstUse
	case v.Refuse != nil:
		h.dismiss(now, s, Report{
			Kind: KeyChanged, Level: Warn, Reason: reason,
			Text: "the session ends, since its key is not the one of this address any more: " + v.Refuse.Error(),
		})
		return
	}
	if s.stranger && h.vouched(s, s.who.Key) {
		h.acquainted(s)
	}
	was, is := s.assurance, v.Assurance
	if is < identity.Verified {
		is = min(is, was) // that its own record is there now makes no earlier session of it
	}
	if is >= was || !s.up {
		s.assurance = is
		return
	}
	granted := h.granted(s)
	s.assurance = is
	fell := fmt.Sprintf("assurance %v instead of %v", is, was)
	if h.granted(s) < granted {
		h.dismiss(now, s, Report{
			Kind: KeyLowered, Level: Warn, Reason: LessKnown,
			Text: "the session ends, since less is known of its key than the policy demands: " + fell,
			Hint: fmt.Sprintf("compare the key, and then: btns trust verify %v --fingerprint %v", s.remote.Addr(), s.who.Key.Fingerprint()),
		})
		return
	}
	h.report(now, Report{
		Kind: KeyLowered, Level: Warn, Remote: s.remote.Addr(), Key: s.who.Key.Fingerprint(), Reason: reason,
		Text: "less is known of the key of this peer, and its session goes on with " + fell,
	})
}

// assessAt asks trust again about the sessions of an address, since an operator said who belongs there.
func (h *Host) assessAt(now time.Time, addr netip.Addr) {
	for _, s := range h.sortedSessions() {
		if s.up && s.peer != nil && s.remote.Addr() == addr {
			h.assess(now, s, trustReason(trust.ByOperator))
		}
	}
}

// granted counts the pairs of a session that the policy grants.
func (h *Host) granted(s *session) (n int) {
	for _, pair := range h.sas.Owned(uint64(s.handle)) {
		if h.stillGranted(s, pair) == nil {
			n++
		}
	}
	return n
}

// dismiss ends a session whose peer may not be here any more: it counts for nothing from now on, whatever the peer
// answers, and nothing goes in clear that must not.
func (h *Host) dismiss(now time.Time, s *session, r Report) {
	if s.dismissed() {
		return
	}
	r.Remote, r.Key = s.remote.Addr(), s.who.Key.Fingerprint()
	h.report(now, r)
	p := s.peer
	if p == nil || !s.up {
		h.ike(now, ikev2.DeleteSA{SA: s.handle})
		return
	}
	for _, pair := range h.sas.Owned(uint64(s.handle)) {
		h.change(dataplane.RemoveSA{ID: flow.PairID(pair.ID)})
		h.sas.Remove(pair.ID)
		h.standIn(pair)
	}
	p.drop(s)
	s.peer, s.pad = nil, nil
	h.ike(now, ikev2.DeleteSA{SA: s.handle})
	switch {
	case h.sends(p) || p.attempt != 0:
	case len(p.sessions) > 0:
		if p.state == StateProtected {
			h.enter(now, p, StateNegotiating, "the IKE SA has no child SA; the next packet makes one", "")
		}
	case h.required(now, p) && r.Level == Info: // nothing is wrong
		h.enter(now, p, StateNegotiating, "the next packet makes new SAs", "")
	case h.required(now, p):
		h.enterFor(now, p, StateRefused, r.Reason, r.Text, r.Hint)
	default:
		h.enterFor(now, p, StateClear, r.Reason, r.Text, r.Hint)
		h.forgetIdle(now, p)
	}
}

// endKey ends the sessions of a key that is accepted no more.
func (h *Host) endKey(now time.Time, key identity.Fingerprint, r Report) {
	for _, s := range h.withKey(key) {
		h.dismiss(now, s, r)
	}
}
