package host

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/ikev2"
	"github.com/btns-ipsec/btns/trust"
)

// Two people compare the short string of a live session (trust.md §7). Each of them begins it on his own host: whoever sits in
// between has one guess for each time that both do, and each guess that fails is seen. What the other side begins waits until
// this side's operator does so too; it is answered once (BTNS-TRUST-53).

// Compare begins the comparison with the host at an address. It ends with a report of kind [Operator].
type Compare struct{ Addr netip.Addr }

// Compared is what the two people found. Words are those that were shown, so that the answer is about what was asked.
type Compared struct {
	Addr  netip.Addr
	Words string
	Same  bool
}

func (Compare) event()  {}
func (Compared) event() {}

// CompareState is how far a comparison has come.
type CompareState string

const (
	CompareNone    CompareState = ""        // nothing was begun
	CompareWaiting CompareState = "waiting" // for the other side
	CompareReady   CompareState = "ready"   // there is a string to be compared
	CompareFailed  CompareState = "failed"
)

// CompareView is a comparison as it is shown.
type CompareView struct {
	Addr      netip.Addr
	State     CompareState
	Key       identity.Fingerprint // of the peer
	Assurance identity.Assurance
	String    identity.ShortString
	Reason    Reason // why it failed
	Why       string
}

const (
	// comparePatience is how long the one side waits for the other to begin, and for an answer of people after that.
	comparePatience = 2 * time.Minute
	answerPatience  = 15 * time.Minute
)

// comparison is what an operator has begun.
type comparison struct {
	view    CompareView
	until   time.Time
	session ikev2.Handle
	query   trust.Query // of that session
	commit  []byte      // our first message, while it waits for the answer
	first   *identity.ShortStringInitiator
	second  *identity.ShortStringResponder
}

func (c *comparison) waits(now time.Time) bool {
	return c != nil && c.view.State == CompareWaiting && now.Before(c.until)
}

var (
	errNoSession  = errors.New("there is no IKE SA with it")
	errNoTalk     = errors.New("it is not btns, or has no key")
	errNothingToo = errors.New("there is no such comparison, or it was too long ago")
)

// Comparing returns the comparison with the host at an address.
func (h *Host) Comparing(now time.Time, addr netip.Addr) CompareView {
	c := h.compares[addr]
	if c == nil {
		return CompareView{Addr: addr}
	}
	if s := h.sessions[c.session]; s != nil {
		c.view.Assurance = s.assurance
	}
	return c.view
}

func (h *Host) compare(now time.Time, addr netip.Addr) {
	s, err := h.comparable(addr)
	report := Report{Remote: addr}
	if err == nil {
		c := &comparison{
			view:  CompareView{Addr: addr, State: CompareWaiting, Key: s.who.Key.Fingerprint()},
			until: now.Add(comparePatience), session: s.handle,
		}
		h.compares[addr] = c
		h.alarms.add(c.until, endCompare, addr, 0)
		report.Key = c.view.Key
		report.Text = fmt.Sprintf("waits until somebody says the same on that host: btns trust compare %v", s.local)
		if offered := h.offered(now, s.peer); offered != nil {
			h.answerCompare(now, c, offered, offered.talk.offer.commit)
			offered.talk.offer = nil
		} else {
			err = h.beginCompare(now, c, s)
		}
	}
	h.operated(now, err, report)
}

// comparable returns the session with the host at an address, or why there is none in which strings can be compared.
func (h *Host) comparable(addr netip.Addr) (*session, error) {
	p := h.peers[addr]
	switch {
	case p == nil || p.session() == nil:
		return nil, errNoSession
	case p.session().talk == nil:
		return nil, errNoTalk
	}
	return p.session(), nil
}

// offered is the session in which the other side has begun a comparison that waits for this one, or nil.
func (h *Host) offered(now time.Time, p *peer) *session {
	for _, s := range p.sessions {
		if s.talk != nil && s.talk.offer != nil && now.Sub(s.talk.offer.at) < comparePatience {
			return s
		}
	}
	return nil
}

// draw is 32 octets of entropy.
func (h *Host) draw() (b [32]byte, err error) {
	_, err = io.ReadFull(h.rand, b[:])
	return b, err
}

func (h *Host) beginCompare(now time.Time, c *comparison, s *session) error {
	na, err := h.draw()
	if err != nil {
		h.failCompare(c, NotDone, err.Error())
		return err
	}
	c.first, c.commit = identity.CompareShortString(s.talk.binding, na)
	h.ike(now, ikev2.Tell{SA: s.handle, Kind: ikev2.ShortString, Data: c.commit})
	return nil
}

// answerCompare answers what the other side has begun, which may be in another session than the one that we would take.
func (h *Host) answerCompare(now time.Time, c *comparison, s *session, commit []byte) {
	nb, err := h.draw()
	if err != nil {
		h.failCompare(c, NotDone, err.Error())
		return
	}
	second, nonce, err := identity.AnswerShortString(s.talk.binding, nb, commit)
	if err != nil {
		h.failCompare(c, CompareBroken, err.Error())
		return
	}
	c.session, c.view.Key = s.handle, s.who.Key.Fingerprint()
	c.first, c.commit, c.second = nil, nil, second
	h.ike(now, ikev2.Tell{SA: s.handle, Kind: ikev2.ShortString, Data: nonce})
}

// shortString takes a step of the other side.
func (h *Host) shortString(now time.Time, s *session, data []byte) {
	c := h.compares[s.peer.addr]
	switch {
	case identity.CommitsShortString(data):
		h.committed(now, c, s, data)
	case !c.waits(now) || c.session != s.handle:
		// an answer to nothing, or too late
	case c.first != nil:
		str, reveal, err := c.first.Nonce(data)
		if err != nil {
			return // malformed: the one that is meant may still come
		}
		h.ike(now, ikev2.Tell{SA: s.handle, Kind: ikev2.ShortString, Data: reveal})
		h.compareReady(now, c, s, str)
	case c.second != nil:
		str, err := c.second.Reveal(data)
		switch {
		case err == nil:
			h.compareReady(now, c, s, str)
		case errors.Is(err, identity.ErrCommitment):
			h.failCompare(c, CompareBroken, err.Error())
			h.report(now, Report{
				Kind: KeyCompared, Level: Alarm, Remote: s.remote.Addr(), Key: s.who.Key.Fingerprint(), Reason: CompareBroken,
				Text: "THE OTHER SIDE OF A COMPARISON CHEATS: it shows another number than the one that it was bound to",
			})
		}
	}
}

// committed is told that the other side has begun.
func (h *Host) committed(now time.Time, c *comparison, s *session, commit []byte) {
	switch {
	case !c.waits(now): // until this side's operator wants it, too
		s.talk.offer = &offer{bytes.Clone(commit), now}
		h.report(now, Report{
			Kind: KeyCompared, Level: Info, Remote: s.remote.Addr(), Key: s.who.Key.Fingerprint(),
			Text: "somebody at that host wants to compare the short string of the session",
			Hint: fmt.Sprintf("if you are in touch with them: btns trust compare %v", s.peer.addr),
		})
	case c.second != nil: // who has our number may not choose his anew
		h.failCompare(c, CompareTwice, "the other side has begun twice")
	case bytes.Compare(commit, c.commit) < 0: // both have begun: the lower one leads
		h.answerCompare(now, c, s, commit)
	}
}

func (h *Host) compareReady(now time.Time, c *comparison, s *session, str identity.ShortString) {
	c.view.State, c.view.String = CompareReady, str
	c.query = h.query(s, s.who, s.named)
	c.until = now.Add(answerPatience)
	h.alarms.add(c.until, endCompare, c.view.Addr, 0)
}

func (h *Host) failCompare(c *comparison, r Reason, why string) {
	c.view.State, c.view.Reason, c.view.Why = CompareFailed, r, why
}

// endCompare forgets what nobody has gone on with.
func (h *Host) endCompare(now time.Time, addr netip.Addr) {
	c := h.compares[addr]
	switch {
	case c == nil || now.Before(c.until):
	case c.view.State == CompareWaiting:
		h.failCompare(c, CompareAlone, "nobody has begun on the other host in time")
		c.until = now.Add(answerPatience)
		h.alarms.add(c.until, endCompare, addr, 0)
	default:
		delete(h.compares, addr)
	}
}

// compareEnds is told that a session is gone.
func (h *Host) compareEnds(s *session) {
	if c := h.compares[s.peer.addr]; c != nil && c.session == s.handle && c.view.State == CompareWaiting {
		h.failCompare(c, CompareAlone, "the session has ended")
	}
}

// compared notes what the two people found (BTNS-TRUST-06: it is about the key).
func (h *Host) compared(now time.Time, ev Compared) {
	c := h.compares[ev.Addr]
	if c == nil || c.view.State != CompareReady || c.view.String.Words != ev.Words {
		h.operated(now, errNothingToo, Report{Remote: ev.Addr})
		return
	}
	delete(h.compares, ev.Addr)
	report := Report{Remote: ev.Addr, Key: c.view.Key}
	if !ev.Same {
		h.report(now, Report{
			Kind: KeyCompared, Level: Alarm, Remote: ev.Addr, Key: c.view.Key, Reason: StringsDiffer,
			Text: fmt.Sprintf("THE SHORT STRINGS DIFFER: somebody sits between this host and %v, and has this key", ev.Addr),
			Hint: "nothing that goes there is secret; to refuse that key: btns trust revoke " + c.view.Key.String(),
		})
		report.Text = "noted: nothing is verified, and the key is suspicious"
		h.operated(now, nil, report)
		return
	}
	changes, err := h.book.Confirm(now, c.query)
	h.persist(changes)
	report.Text = "the key counts as verified from now on: " + c.view.Key.String()
	h.operated(now, err, report)
	if err == nil {
		h.settled(now, ev.Addr)
	}
}
