package host

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/btns-ipsec/btns/ikev2"
	"github.com/btns-ipsec/btns/trust"
)

// What the host asks of trust, and what it tells the operator about the answers.

func (h *Host) sticky(now time.Time, addr netip.Addr) bool {
	return h.book.Sticky(now, addr, h.around.Network)
}

// query describes a session to trust. named says that the PAD names this key or authenticated this identity.
func (h *Host) query(s *session, peer ikev2.Peer, named bool) trust.Query {
	return trust.Query{
		Addr: s.remote.Addr(), Network: h.around.Network, Key: peer.Key,
		Inbound: !s.initiator, NAT: s.nat.Peer, Named: named,
	}
}

// judgeKey asks trust about a verified key. A key that holds an address only because it came in from there gives it up
// when it is not alive (design.md: who is recorded).
func (h *Host) judgeKey(now time.Time, s *session, peer ikev2.Peer, named bool) trust.Verdict {
	q := h.query(s, peer, named)
	v := h.book.Judge(now, q)
	var changed *trust.KeyChangedError
	if !errors.As(v.Refuse, &changed) || !changed.Inbound {
		return v
	}
	if p := h.peers[q.Addr]; p != nil {
		for _, o := range p.sessions {
			if o.who.Key.Fingerprint() == changed.Want {
				h.ike(now, ikev2.CheckAlive{SA: o.handle})
				return v // the newcomer is welcome to ask again when the check has failed
			}
		}
	}
	q.OldGone = true
	return h.book.Judge(now, q)
}

// record is told that traffic of s has gone both ways (BTNS-TRUST-16).
func (h *Host) record(now time.Time, s *session) {
	changes, err := h.book.Carried(now, h.query(s, s.who, s.named))
	h.persist(changes)
	switch {
	case errors.Is(err, trust.ErrFull):
		h.report(now, Report{
			Kind: PeerRefused, Level: Warn, Remote: s.peer.addr, Key: s.who.Key.Fingerprint(), Reason: StoreFull,
			Text: "the key cannot be recorded: the store is full", Hint: "remove records: btns trust forget HOST",
		})
		return
	case err != nil: // another key was recorded in the meantime (BTNS-TRUST-34)
		h.tellRefusal(now, s, s.who, err)
		h.ike(now, ikev2.DeleteSA{SA: s.handle})
		return
	}
	h.keepSoon(now)
	for _, c := range changes {
		if put, ok := c.(trust.Put); ok && put.Record.Sessions == 1 {
			h.report(now, Report{
				Kind: FirstContact, Level: Info, Remote: s.peer.addr, Key: s.who.Key.Fingerprint(),
				Text: "the key of this peer is recorded from now on; that it is the right one is a leap of faith until you compare it",
				Hint: fmt.Sprintf("compare with `btns id` on %v", s.peer.addr),
			})
		}
	}
	if p := s.peer; p.state == StateProtected {
		h.enter(now, p, StateProtected, "", "")
	}
}

func (h *Host) persist(changes []trust.Change) {
	for _, c := range changes {
		switch c := c.(type) {
		case trust.Put:
			h.out = append(h.out, Save{c.Record})
		case trust.Delete:
			h.out = append(h.out, Erase{c.Record})
		}
	}
}

func (h *Host) suspend(s *session) {
	if !s.who.Key.IsZero() {
		h.persist(h.book.Suspend(s.who.Key.Fingerprint()))
	}
}

// tellRefusal tells the operator why trust turned a peer away, and what to do.
func (h *Host) tellRefusal(now time.Time, s *session, who ikev2.Peer, err error) {
	addr := s.remote.Addr()
	r := Report{Kind: PeerRefused, Level: Warn, Remote: addr, Key: who.Key.Fingerprint(), Text: err.Error(), Reason: refusalOf(err)}
	var changed *trust.KeyChangedError
	var unknown *trust.UnknownKeyError
	var downgrade *trust.DowngradeError
	switch {
	case errors.As(err, &changed):
		r.Kind, r.Level = KeyChanged, Alarm
		r.Text = fmt.Sprintf("THE KEY OF %v HAS CHANGED, so it is refused. Recorded since %s: %v. Offered now: %v. "+
			"Somebody may be posing as this peer, or it was re-installed.", addr, changed.Since.Format(time.DateOnly), changed.Want, changed.Got)
		r.Hint = fmt.Sprintf("compare the new key with `btns id` on that host over another channel; if it is right: btns trust accept %v %v", addr, changed.Got)
	case errors.As(err, &unknown):
		r.Text = fmt.Sprintf("the key of %v is not known, and the trust mode is %v: %v", addr, unknown.Mode, unknown.Got)
		r.Hint = fmt.Sprintf("after comparing it: btns trust accept %v %v", addr, unknown.Got)
	case errors.As(err, &downgrade):
		r.Kind, r.Level = KeyChanged, Alarm
		r.Text = fmt.Sprintf("%v came without a key, but %v is recorded for it: refused", addr, downgrade.Want)
		r.Hint = fmt.Sprintf("if that host has no key any more: btns trust forget %v", addr)
	}
	h.report(now, r)
	if p := h.peers[addr]; p != nil && len(p.sessions) == 0 {
		h.enterFor(now, p, StateRefused, r.Reason, r.Text, r.Hint)
	}
}

func refusedByTrust(err error) bool {
	var changed *trust.KeyChangedError
	var unknown *trust.UnknownKeyError
	var downgrade *trust.DowngradeError
	return errors.As(err, &changed) || errors.As(err, &unknown) || errors.As(err, &downgrade)
}

const unrecorded = "nothing is recorded of this address"

func (h *Host) forget(now time.Time, f Forget) {
	var changes []trust.Change
	if f.Addr.IsValid() {
		changes = h.book.Forget(f.Addr)
	} else {
		changes = h.book.ForgetKey(f.Key)
	}
	h.persist(changes)
	text := "nothing was recorded"
	if len(changes) > 0 {
		text = plural(uint64(len(changes)), "record") + " removed; the next contact is a first one again"
	}
	h.report(now, Report{Kind: Operator, Level: Info, Remote: f.Addr, Key: f.Key, Text: text})
	for _, c := range changes {
		if gone, ok := c.(trust.Delete); ok && gone.Record.Addr.IsValid() {
			h.freed(now, gone.Record.Addr, unrecorded)
		}
	}
	if f.Addr.IsValid() {
		h.freed(now, f.Addr, unrecorded)
	}
}

func (h *Host) accept(now time.Time, a Accept) {
	changes, err := h.book.Accept(now, a.Addr, h.around.Network, a.Key)
	h.persist(changes)
	if err != nil {
		h.report(now, Report{Kind: Operator, Level: Warn, Remote: a.Addr, Key: a.Key, Text: err.Error(), Reason: NotAccepted})
		return
	}
	h.report(now, Report{Kind: Operator, Level: Info, Remote: a.Addr, Key: a.Key, Text: "the key is accepted for this address"})
	p := h.peers[a.Addr]
	if p == nil && h.sticky(now, a.Addr) { // it had left in good order, and the operator's word ends that
		p = h.peerAt(now, a.Addr)
	}
	if p == nil || len(p.sessions) > 0 {
		return
	}
	p.fails, p.retryAt = 0, time.Time{}
	h.enter(now, p, StateNegotiating, "accepted by the operator; the next packet makes SAs", "")
	h.attempt(now, p, nil)
}

// expectsKey reports whether N(INITIAL_CONTACT) is true and useful: a key is recorded for p, and no SA with it exists
// here (design.md).
func (h *Host) expectsKey(now time.Time, p *peer) bool {
	return len(p.sessions) == 0 && len(h.book.Lookup(now, p.addr, h.around.Network)) > 0
}
