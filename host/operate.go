package host

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/trust"
)

// What an operator says about keys. Each command ends with one report of kind [Operator] at level Info, or, when it could
// not be done, at level Warn.

func (h *Host) operated(now time.Time, err error, r Report) {
	r.Kind, r.Level = Operator, Info
	if err != nil {
		r.Level, r.Text, r.Reason = Warn, err.Error(), NotDone
	}
	h.report(now, r)
}

func (h *Host) verify(now time.Time, v Verify) {
	var changes []trust.Change
	var err error
	switch {
	case v.Key.IsZero(): // a comparison is about a key
		err = trust.ErrNoRecord
	case v.Addr.IsValid():
		changes, err = h.book.Verify(now, v.Addr, h.around.Network, v.Key)
	default:
		changes, err = h.book.VerifyKey(now, v.Key, h.publicOf(v.Key))
	}
	h.persist(changes)
	h.operated(now, err, Report{Remote: v.Addr, Key: v.Key, Text: "the key counts as verified from now on: " + v.Key.String()})
	h.heed(now)
	if p := h.peers[v.Addr]; err == nil && p != nil && p.state == StateRefused {
		h.letIn(now, v.Addr)
	}
}

// publicOf is a key by its fingerprint, where a session or a record has it; else zero.
func (h *Host) publicOf(key identity.Fingerprint) identity.PublicKey {
	for _, s := range h.withKey(key) {
		return s.who.Key
	}
	for _, r := range h.book.Key(key) {
		if !r.Public.IsZero() {
			return r.Public
		}
	}
	return identity.PublicKey{}
}

func (h *Host) revoke(now time.Time, r Revoke) {
	changes, err := h.book.Revoke(now, r.Key)
	h.persist(changes)
	ended := len(h.withKey(r.Key))
	h.operated(now, err, Report{Key: r.Key, Text: fmt.Sprintf("the key is revoked: %v; %s", r.Key, plural(uint64(ended), "session")+" ended")})
}

// letIn goes on at once with a peer that was turned away and is let in now: what was held for it flows protected.
func (h *Host) letIn(now time.Time, addr netip.Addr) {
	p := h.peers[addr]
	if p == nil && h.sticky(now, addr) { // it had left in good order, and the operator's word ends that
		p = h.peerAt(now, addr)
	}
	if p == nil || len(p.sessions) > 0 {
		return
	}
	p.fails, p.retryAt, p.accepted = 0, time.Time{}, p.waits
	h.enter(now, p, StateNegotiating, "accepted by the operator; the next packet makes SAs", "")
	h.attempt(now, p, nil)
}
