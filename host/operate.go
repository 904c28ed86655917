package host

import (
	"errors"
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
		if name := h.nameFor(v.Addr, v.Name); err == nil && len(h.book.LookupName(now, name)) > 0 {
			var more []trust.Change
			more, err = h.book.VerifyName(now, name, v.Key)
			changes = append(changes, more...)
		}
	default:
		changes, err = h.book.VerifyKey(now, v.Key, h.publicOf(v.Key))
	}
	h.persist(changes)
	h.operated(now, err, Report{Remote: v.Addr, Key: v.Key, Text: "the key counts as verified from now on: " + v.Key.String()})
	if err == nil && v.Addr.IsValid() {
		h.settled(now, v.Addr)
	}
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

func (h *Host) revokeSelf(now time.Time, r RevokeSelf) {
	key := r.Statement.Key().Fingerprint()
	var err error
	if r.Statement.Key() == h.cfg.Signer.Public {
		err = errOwnKey
	} else {
		err = h.takeRevocation(now, r.Statement)
	}
	ended := len(h.withKey(key))
	h.operated(now, err, Report{Key: key, Text: fmt.Sprintf("the key is revoked by its own holder, for good: %v; %s", key, plural(uint64(ended), "session")+" ended")})
}

var errOwnKey = errors.New("that is this host's own key; btns id revoke ends it")

// settled ends the sessions of an address that are not what an operator has just said. What they carried is held until it
// is known whether the key that is meant comes, and is not let out in between.
func (h *Host) settled(now time.Time, addr netip.Addr) {
	p := h.peers[addr]
	served := p != nil && len(p.sessions) > 0
	if served {
		p.waits, p.accepted = true, true
	}
	h.heed(now)
	h.assessAt(now, addr)
	if served && len(p.sessions) > 0 {
		p.waits, p.accepted = false, false
	}
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
	p.fresh()
	p.accepted = p.waits
	h.enter(now, p, StateNegotiating, "accepted by the operator; the next packet makes SAs", "")
	h.attempt(now, p, nil)
}

// maxSkipped is how many lines of a text that were left out are told one by one.
const maxSkipped = 20

// importKnown takes a text of known peers in; what it makes remembered is held from now on, as after a start.
func (h *Host) importKnown(now time.Time, i Import) {
	changes, skipped, err := h.book.Import(now, i.Entries)
	h.persist(changes)
	for n, s := range skipped {
		if n == maxSkipped {
			h.report(now, Report{Kind: Operator, Level: Info, Text: fmt.Sprintf("and %s more", plural(uint64(len(skipped)-n), "line"))})
			break
		}
		h.report(now, Report{Kind: Operator, Level: Info, Key: s.Entry.Record.Key, Text: fmt.Sprintf("line %d is left out: %s", s.Entry.Line, s.Why)})
	}
	taken := uint64(len(i.Entries) - len(skipped))
	h.operated(now, err, Report{Text: "taken in: " + fmt.Sprintf("%d of %s", taken, plural(uint64(len(i.Entries)), "key"))})
	h.heed(now)
	if err == nil {
		for _, e := range i.Entries {
			h.assessAt(now, e.Record.Addr)
		}
		h.closeRecorded(now)
	}
}
