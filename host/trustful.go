package host

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/ikev2"
	"github.com/btns-ipsec/btns/trust"
)

// What the host asks of trust, and what it tells the operator about the answers.

func (h *Host) sticky(now time.Time, addr netip.Addr) bool {
	return h.book.Sticky(now, addr, h.around.Network)
}

// query describes a session to trust. named says that the PAD names this key or authenticated this identity.
func (h *Host) query(s *session, peer ikev2.Peer, named bool) trust.Query {
	q := trust.Query{
		Addr: s.remote.Addr(), Network: h.around.Network, Key: peer.Key,
		Inbound: !s.initiator, NAT: s.nat.Peer, Named: named, Roams: named && s.pad.Roams(),
	}
	if s.talk != nil {
		q.Instance = s.talk.instance
	}
	if !q.NAT || !q.Inbound { // behind a NAT there are others
		q.Name = h.nameOf(s)
	}
	q.OldGone = h.sole(q)
	return q
}

// sole reports whether no peer with another key is at the address of a query.
func (h *Host) sole(q trust.Query) bool {
	p := h.peers[q.Addr]
	return p == nil || !slices.ContainsFunc(p.sessions, func(o *session) bool { return !o.who.Key.IsZero() && o.who.Key != q.Key })
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
		h.tellRefusal(now, s, s.who, trust.Verdict{Refuse: err})
		h.ike(now, ikev2.DeleteSA{SA: s.handle})
		return
	}
	h.keepSoon(now)
	if t := s.talk; t != nil && t.level < identity.Continuity && h.rotating() {
		h.speakAt(now.Add(recordedBoth), s)
	}
	for _, c := range changes {
		if put, ok := c.(trust.Put); ok && put.Record.Sessions == 1 {
			r := Report{
				Kind: FirstContact, Level: Info, Remote: s.peer.addr, Key: s.who.Key.Fingerprint(),
				Text: "the key of this peer is recorded from now on; that it is the right one is a leap of faith until you compare it",
				Hint: fmt.Sprintf("compare with `btns id` on %v", s.peer.addr),
			}
			if s.named && s.pad != nil {
				r.Text, r.Hint = fmt.Sprintf("the key of this peer is recorded; the entry %q of the configuration vouches for it", s.pad.Name), ""
			}
			h.report(now, r)
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

const unrecorded = "nothing is recorded of this address"

func (h *Host) forget(now time.Time, f Forget) {
	var changes []trust.Change
	if f.Addr.IsValid() {
		changes = append(h.book.Forget(f.Addr), h.book.ForgetName(h.nameFor(f.Addr, f.Name))...)
		h.callNothing(f.Addr)
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
	let := h.book.Accept
	if a.Beside {
		let = h.book.AcceptBeside
	}
	changes, err := let(now, a.Addr, h.around.Network, a.Key)
	h.persist(changes)
	if name := h.nameFor(a.Addr, a.Name); err == nil && name != "" {
		changes, err = h.book.AcceptName(now, name, keyIn(changes), a.Beside)
		h.persist(changes)
	}
	if err != nil {
		h.report(now, Report{Kind: Operator, Level: Warn, Remote: a.Addr, Key: a.Key, Text: err.Error(), Reason: NotAccepted})
		return
	}
	h.report(now, Report{Kind: Operator, Level: Info, Remote: a.Addr, Key: a.Key, Text: "the key is accepted for this address"})
	h.settled(now, a.Addr)
	h.letIn(now, a.Addr)
}

// expectsKey reports whether N(INITIAL_CONTACT) is true and useful: a key is recorded for p, and no SA with it exists
// here (design.md).
func (h *Host) expectsKey(now time.Time, p *peer) bool {
	return len(p.sessions) == 0 && len(h.book.Lookup(now, p.addr, h.around.Network)) > 0
}
