package host

import (
	"errors"
	"time"

	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/ikev2"
	"github.com/btns-ipsec/btns/trust"
)

// talk is what a session with a btns peer has besides, in which the two tell each other about their keys.
type talk struct {
	own     identity.PublicKey // that we signed with; zero: we did not
	binding identity.Binding
	// instance is which machine the peer says it is, so that a copy of it is told from itself.
	instance trust.Instance
	level    identity.Assurance // of the peer's key when the session began (BTNS-TRUST-41)
	told     bool               // the peer has our list of successors
	offer    *offer             // what the other side has begun; nil: nothing

	since time.Time // when heard was 0
	heard int       // statements of the peer
}

// offer is the first message of a comparison that waits for this side's operator.
type offer struct {
	commit []byte
	at     time.Time
}

const (
	maxHeard = 16 // statements of a peer a minute; checking one costs signatures
	// recordedBoth is how long after the first packets both sides have recorded each other.
	recordedBoth = 5 * time.Second
	busyPause    = 10 * time.Second // until something is tried again for which there was no room
	renewPause   = time.Minute      // until a renewal is tried again that nobody answered
	// renewSeldom is how often a session is made anew so that the key in it is one that was known before: where nothing can
	// be recorded it never is.
	renewSeldom = 10 * time.Minute
)

// admit counts a statement, and reports whether it is one too many.
func (t *talk) admit(now time.Time) bool {
	if now.Sub(t.since) >= time.Minute {
		t.since, t.heard = now, 0
	}
	t.heard++
	return t.heard <= maxHeard
}

// greet begins to talk in a session that has come up.
func (h *Host) greet(now time.Time, s *session, a ikev2.SAUp) {
	if !a.Btns || a.Peer.Method != ikev2.Signature {
		return
	}
	s.talk = &talk{own: a.Own, binding: a.Binding, instance: trust.Instance(a.Instance), level: s.assurance}
	if !s.initiator { // the peer is still at work on our answer
		h.speakAt(now.Add(answerTime), s)
		return
	}
	h.speak(now, s)
}

// speak tells the peer of s what there is to tell, or has the session made anew when it has to be.
func (h *Host) speak(now time.Time, s *session) {
	t := s.talk
	if t == nil || !s.up || s.peer == nil || h.stopping {
		return
	}
	r := &h.cfg.Rotation
	own := h.cfg.Signer.Public
	switch {
	case t.own == own && h.rotating():
		if t.level < identity.Continuity && s.recorded && h.renewKnown(now, s) {
			return // a list counts for nothing where the peer has just come to know us
		}
		h.announce(now, s, []trust.Upcoming{{Signer: r.Next, From: r.From}})
	case t.own == own && !r.Former.IsZero() && !h.under(now, s, r.Former): // the list that the former key is not in
		h.announce(now, s, []trust.Upcoming{{Signer: h.cfg.Signer, From: r.Turned}})
	case t.own == r.Former && !t.own.IsZero() && s.peer.cfg == nil && h.renewable(s):
		h.renew(now, s)
	}
	if t.own == own && r.Revocation != nil {
		h.ike(now, ikev2.Tell{SA: s.handle, Kind: ikev2.Revocation, Data: r.Revocation})
	}
}

// under reports whether there is a session with the peer of s in which we have shown the former key: the peer would end it when
// that is gone. While sessions are made anew its other addresses are looked at, too.
func (h *Host) under(now time.Time, s *session, former identity.PublicKey) bool {
	for _, o := range s.peer.sessions {
		if o.talk != nil && o.talk.own == former {
			return true
		}
	}
	if now.Sub(h.cfg.Rotation.Turned) > renewSeldom {
		return false
	}
	for _, o := range h.sessions {
		if o.up && o.peer != nil && o.who.Key == s.who.Key && o.talk != nil && o.talk.own == former {
			return true
		}
	}
	return false
}

// announce tells the peer a list of keys that may come in the place of ours (BTNS-TRUST-40).
func (h *Host) announce(now time.Time, s *session, keys []trust.Upcoming) {
	data, err := trust.Announce(h.rand, s.talk.binding, s.talk.own, keys)
	if err != nil {
		h.report(now, Report{Kind: OwnKey, Level: Warn, Remote: s.remote.Addr(), Text: err.Error(), Reason: NotDone})
		return
	}
	h.ike(now, ikev2.Tell{SA: s.handle, Kind: ikev2.Successors, Data: data})
}

// acknowledged is told that the peer has a statement.
func (h *Host) acknowledged(a ikev2.Told) {
	if s := h.sessions[a.SA]; s != nil && s.talk != nil && a.Kind == ikev2.Successors {
		s.talk.told = h.rotating()
	}
}

// stated takes a statement of a peer.
func (h *Host) stated(now time.Time, a ikev2.Stated) {
	s := h.sessions[a.SA]
	if s == nil || s.talk == nil || s.peer == nil {
		return
	}
	if !s.talk.admit(now) {
		h.report(now, Report{
			Kind: IKENotice, Level: Debug, Remote: s.remote.Addr(), Key: s.who.Key.Fingerprint(), Reason: TooTalkative,
			Text: "a statement of the peer is not looked at",
		})
		return
	}
	switch a.Kind {
	case ikev2.Successors:
		h.successors(now, s, a.Data)
	case ikev2.Revocation:
		h.selfRevoked(now, s, a.Data)
	case ikev2.ShortString:
		h.shortString(now, s, a.Data)
	}
}

// successors takes the list of keys that a peer names (BTNS-TRUST-41).
func (h *Host) successors(now time.Time, s *session, data []byte) {
	list, err := trust.ParseAnnouncement(data)
	if err == nil {
		q := h.query(s, s.who, s.named)
		if q.Level = s.talk.level; s.assurance >= identity.Verified {
			q.Level = s.assurance // an operator's word, and not the session's
		}
		var changes []trust.Change
		changes, err = h.book.Succeed(now, q, s.talk.binding, list)
		h.persist(changes)
	}
	if err == nil {
		return
	}
	r := Report{
		Kind: KeyRotated, Level: Warn, Remote: s.remote.Addr(), Key: s.who.Key.Fingerprint(), Reason: SuccessorRefused,
		Text: "the peer names keys that may come in the place of its own, and is not believed: " + err.Error(),
	}
	switch {
	case errors.Is(err, trust.ErrTooNew), errors.Is(err, trust.ErrNoRecord):
		r.Level, r.Reason = Debug, SuccessorEarly
		if namesOther(list, s.who.Key) && s.recorded {
			h.renewKnown(now, s)
		}
	case errors.Is(err, trust.ErrFull):
		r.Reason = StoreFull
	}
	h.report(now, r)
}

func namesOther(list []trust.Announced, key identity.PublicKey) bool {
	for _, a := range list {
		if a.Key != key {
			return true
		}
	}
	return false
}

// selfRevoked takes the statement by which a key, of the peer or of anybody, ends itself (BTNS-TRUST-44).
func (h *Host) selfRevoked(now time.Time, s *session, data []byte) {
	r, err := trust.ParseRevocation(data)
	report := Report{Kind: KeyRevoked, Level: Warn, Remote: s.remote.Addr(), Key: r.Key().Fingerprint(), Reason: StatementRefused}
	switch {
	case err != nil:
		report.Text = "the peer sends a revocation that is none: " + err.Error()
		h.report(now, report)
	case r.Key() == h.cfg.Signer.Public || h.rotating() && r.Key() == h.cfg.Rotation.Next.Public:
		report.Level, report.Reason = Alarm, RevokedKey
		report.Text = "SOMEBODY HAS REVOKED A KEY OF THIS HOST, by a statement that only its holder can make: it was copied, or stolen"
		report.Hint = "find out who; then give this host another key: btns id revoke"
		h.report(now, report)
	default:
		_ = h.takeRevocation(now, r) // it has told
	}
}

func (h *Host) takeRevocation(now time.Time, r trust.Revocation) error {
	changes, err := h.book.RevokeSelf(now, r)
	h.persist(changes)
	if errors.Is(err, trust.ErrFull) {
		h.report(now, Report{
			Kind: KeyRevoked, Level: Warn, Key: r.Key().Fingerprint(), Reason: StoreFull,
			Text: "a key was revoked by its holder, and there is no room to record that",
		})
	}
	return err
}
