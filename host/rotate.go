package host

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/btns-ipsec/btns/dataplane/flow"
	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/ikev2"
	"github.com/btns-ipsec/btns/trust"
)

// The change of this host's own key (trust.md §6). For a while the key to come is announced under the present one, to every
// peer that is there or comes; then it takes over, and IKE SAs with peers that know of it are made anew under it, each before
// the one under the old key goes.

// Rotation is how far the change of the host's own key has come.
type Rotation struct {
	Next identity.Signer // zero: none is planned
	From time.Time       // when it takes over
	// Former is the key that the present one took over from, and Turned when; zero: none, or so long ago that no peer has
	// to be told any more.
	Former identity.PublicKey
	Turned time.Time
	// Revocation is the statement that ended a key before; nil: none did. Peers are told it for good.
	Revocation []byte
}

// RetireAfter is how long a key is told to peers as the one before: after that they have given it up by themselves.
const RetireAfter = 90 * 24 * time.Hour

// Rotate plans the change to another key, or, without one, takes a planned change back. It ends with a report of kind
// [Operator].
type Rotate struct {
	Next identity.Signer
	From time.Time
}

// RevokeOwn ends the present key for good, by a statement that it has signed, and goes on under another.
type RevokeOwn struct {
	Next      identity.Signer
	Statement []byte
}

// KeyTurned says that another key is this host's own from now on. Whatever keeps keys has Next in the place of the present
// one; it may do that late: a host that starts with a key whose time has come begins with that.
type KeyTurned struct{ Key identity.Signer }

func (Rotate) event()     {}
func (RevokeOwn) event()  {}
func (KeyTurned) action() {}

// OwnView is the host's own keys as `btns id` shows them.
type OwnView struct {
	Key        identity.PublicKey
	Next       identity.PublicKey // zero: none is planned
	From       time.Time
	Former     identity.PublicKey
	Turned     time.Time
	Told       int // peers here that know of Next
	Revocation []byte
}

// Own returns the host's own keys.
func (h *Host) Own() OwnView {
	r := h.cfg.Rotation
	v := OwnView{Key: h.cfg.Signer.Public, Next: r.Next.Public, From: r.From, Former: r.Former, Turned: r.Turned, Revocation: r.Revocation}
	for _, s := range h.sessions {
		if s.talk != nil && s.talk.told {
			v.Told++
		}
	}
	return v
}

func (h *Host) rotating() bool { return !h.cfg.Rotation.Next.Public.IsZero() }

var (
	errRotating    = errors.New("a change of this host's key is planned already")
	errNotRotating = errors.New("no change of this host's key is planned")
	errSameKey     = errors.New("that is this host's key already")
)

// resumeRotation goes on where the last run ended.
func (h *Host) resumeRotation(now time.Time) {
	r := &h.cfg.Rotation
	if now.Sub(r.Turned) > RetireAfter {
		r.Former = identity.PublicKey{}
	}
	if h.rotating() {
		h.alarmKey(now)
	}
	if own, err := trust.ParseRevocation(r.Revocation); err == nil && own.Key() != h.cfg.Signer.Public {
		_ = h.takeRevocation(now, own) // the last run may have ended before it was recorded; that there is no room has been told
	}
}

// alarmKey sets the alarm for the time of the next key.
func (h *Host) alarmKey(now time.Time) {
	at := h.cfg.Rotation.From
	if at.Before(now) {
		at = now
	}
	h.alarms.add(at, turnKey, netip.Addr{}, 0)
}

func (h *Host) rotate(now time.Time, r Rotate) {
	var err error
	report := Report{Key: r.Next.Public.Fingerprint()}
	switch {
	case r.Next.Public.IsZero():
		err = h.takeBack(now)
		report.Text = "no change of this host's key is planned any more"
	case h.stopping:
		err = errStopping
	case h.rotating():
		err = errRotating
	case r.Next.Public == h.cfg.Signer.Public:
		err = errSameKey
	default:
		h.cfg.Rotation.Next, h.cfg.Rotation.From = r.Next, r.From
		h.alarmKey(now)
		report.Text = h.planned(h.speakToAll(now))
	}
	h.operated(now, err, report)
}

// planned says what a planned change means for whom.
func (h *Host) planned(told int) string {
	r := h.cfg.Rotation
	text := fmt.Sprintf("this host's key will be %v from %s on; %s told now, the others when they come",
		r.Next.Public.Fingerprint(), r.From.UTC().Format(time.RFC3339), plural(uint64(told), "peer"))
	var names []string
	shown := func(c *Peer) {
		if c.Self.Method == ikev2.Signature && c.Self.Key.Public == h.cfg.Signer.Public {
			names = append(names, c.Name)
		}
	}
	for _, p := range h.named {
		shown(p.cfg)
	}
	for _, name := range slices.Sorted(maps.Keys(h.roaming)) {
		shown(h.roaming[name])
	}
	if len(names) > 0 {
		text += "; peers of the configuration whose own configuration names the present key need the new one there: " + strings.Join(names, ", ")
	}
	return text
}

// takeBack ends a plan, and tells the peers that are there: a list of nothing but the present key.
func (h *Host) takeBack(now time.Time) error {
	if !h.rotating() {
		return errNotRotating
	}
	h.cfg.Rotation.Next, h.cfg.Rotation.From = identity.Signer{}, time.Time{}
	for _, s := range h.sortedSessions() {
		if s.talk != nil && s.talk.own == h.cfg.Signer.Public { // others were told nothing
			s.talk.told = false
			h.announce(now, s, []trust.Upcoming{{Signer: h.cfg.Signer, From: now}})
		}
	}
	return nil
}

// turnOver puts the next key in force when its time has come.
func (h *Host) turnOver(now time.Time) {
	r := &h.cfg.Rotation
	if !h.rotating() || r.From.After(now) {
		return
	}
	former := h.cfg.Signer.Public
	h.takeKey(now, r.Next)
	*r = Rotation{Former: former, Turned: now, Revocation: r.Revocation}
	n := h.speakToAll(now)
	h.report(now, Report{
		Kind: OwnKey, Level: Info, Key: h.cfg.Signer.Public.Fingerprint(), Reason: trustReason(trust.HandOver),
		Text: fmt.Sprintf("the key of this host has changed as planned, from %v; SAs with %s are made anew", former, plural(uint64(n), "peer")),
	})
}

// takeKey makes k the host's own key, wherever its own key was shown.
func (h *Host) takeKey(now time.Time, k identity.Signer) {
	old := h.cfg.Signer.Public
	h.cfg.Signer = k
	for _, p := range h.named {
		self := &p.cfg.Self
		if self.Method != ikev2.Signature || self.Key.Public != old {
			continue
		}
		self.Key = k
		if self.Certificate != nil {
			der, err := identity.SelfSigned(k, now, h.rand, self.ID)
			if err != nil {
				h.report(now, Report{Kind: OwnKey, Level: Warn, Remote: p.addr, Text: err.Error(), Reason: NotDone})
			}
			self.Certificate = der
		}
	}
	for _, c := range h.roaming {
		if c.Self.Method == ikev2.Signature && c.Self.Key.Public == old {
			c.Self.Key = k
		}
	}
	h.out = append(h.out, KeyTurned{k})
}

// revokeOwn ends the present key. Peers that are there are told with the delete of their SAs; what the operator carries to
// the others is the same statement.
func (h *Host) revokeOwn(now time.Time, r RevokeOwn) {
	statement, err := trust.ParseRevocation(r.Statement)
	old := h.cfg.Signer.Public
	if err == nil && (statement.Key() != old || r.Next.Public.IsZero() || r.Next.Public == old) {
		err = trust.ErrRevocation
	}
	if err != nil {
		h.operated(now, err, Report{Key: old.Fingerprint()})
		return
	}
	besides := ""
	if err := h.takeRevocation(now, statement); err != nil { // whoever has it now may not come to us with it
		besides = "; this host itself could not record that, and tries again when it starts: " + err.Error()
	}
	under := h.sessionsUnder(old)
	h.takeKey(now, r.Next)
	h.cfg.Rotation = Rotation{Revocation: r.Statement}
	told := uint64(0)
	for _, s := range under {
		p := s.peer
		switch {
		case s.up:
			if s.talk != nil {
				told++
			}
			h.ike(now, ikev2.DeleteSA{SA: s.handle, Revocation: r.Statement})
		case p != nil && p.attempt == s.handle: // begun with the old key
			s.peer, p.attempt = nil, 0
			h.ike(now, ikev2.DeleteSA{SA: s.handle, Silent: true})
			h.attempt(now, p, nil)
		default:
			h.ike(now, ikev2.DeleteSA{SA: s.handle, Silent: true})
		}
	}
	h.operated(now, nil, Report{
		Key: old.Fingerprint(),
		Text: fmt.Sprintf("the key %v of this host is revoked for good, and %s told; its key is %v now, which others accept after comparing it",
			old, plural(told, "peer"), r.Next.Public) + besides,
	})
}

// sessionsUnder are the IKE SAs in which this host shows, or may show, that key.
func (h *Host) sessionsUnder(key identity.PublicKey) (out []*session) {
	for _, s := range h.sortedSessions() {
		own := key
		if c := s.configured(); s.talk != nil {
			own = s.talk.own
		} else if c != nil {
			own = c.Self.Key.Public
		}
		if own == key {
			out = append(out, s)
		}
	}
	return out
}

// speakToAll has something told to all peers that understand it, a few at a time, and says how many they are.
func (h *Host) speakToAll(now time.Time) (n int) {
	for _, s := range h.sortedSessions() {
		if s.up && s.talk != nil {
			h.speakAt(now.Add(time.Duration(n/speakAtOnce)*speakEvery), s)
			n++
		}
	}
	return n
}

const (
	speakAtOnce = 32 // peers are told at once
	speakEvery  = 100 * time.Millisecond
)

func (h *Host) speakAt(at time.Time, s *session) {
	h.alarms.add(at, speak, netip.Addr{}, flow.PairID(s.handle))
}
