package host

import (
	"time"

	"github.com/btns-ipsec/btns/ikev2"
)

// A session is made anew when it has to begin again what happens at its beginning: showing our key, or judging the peer's.
// Rekeying does not do that (RFC 7296 §2.8.3). The new one is there before the old one goes; see [twins].

// renewable reports whether another IKE SA can be begun with the peer of s: a NAT in front of it lets nothing in.
func (h *Host) renewable(s *session) bool {
	p := s.peer
	return p != nil && p.cfg == nil && (s.initiator || !s.nat.Peer) && p.local.IsValid() && h.speaksOn(p.local) && h.protects(p.addr)
}

// renew begins the session that is to take the place of s, and reports whether it has; what is in the way now is tried again.
func (h *Host) renew(now time.Time, s *session) bool {
	p := s.peer
	if p.session() != s { // a newer one is there
		return false
	}
	if p.attempt != 0 || p.asking || len(s.promised) > 0 {
		h.speakAt(now.Add(busyPause), s)
		return false
	}
	child, ok := h.request(p, nil)
	if ok {
		h.initiate(now, p, child, nil, s)
	}
	return ok
}

// renewKnown makes a session anew in which a key came to be known, so that it is one that was known before. It reports false
// where that cannot be, or was just done.
func (h *Host) renewKnown(now time.Time, s *session) bool {
	p := s.peer
	if !h.renewable(s) || now.Before(p.trouble().renewAfter) {
		return false
	}
	if h.renew(now, s) {
		p.suffers(func(t *trouble) { t.renewAfter = now.Add(renewSeldom) })
	}
	return true
}

// notRenewed is told that the session that was to take the place of another did not come.
func (h *Host) notRenewed(now time.Time, a ikev2.SADown, replaces ikev2.Handle) {
	old := h.sessions[replaces]
	if old == nil || old.peer == nil || a.Err == nil {
		return
	}
	o := outcomeOf(a.Err, false)
	r := Report{
		Kind: OwnKey, Level: Info, Remote: old.remote.Addr(), Key: old.who.Key.Fingerprint(), Reason: o.reason,
		Text: "the session could not be made anew; the old one goes on: " + o.why,
	}
	if o.reason == PeerRejects {
		r.Level, r.Hint = Warn, "if that host has not been told of the new key in time, compare it with `btns id` here, and accept it there"
		h.report(now, r)
		return
	}
	h.report(now, r)
	h.speakAt(now.Add(renewPause), old)
}
