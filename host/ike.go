package host

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/btns-ipsec/btns/dataplane"
	"github.com/btns-ipsec/btns/dataplane/flow"
	"github.com/btns-ipsec/btns/ikev2"
	"github.com/btns-ipsec/btns/ikev2/chain"
	"github.com/btns-ipsec/btns/probe"
)

// ike feeds one event to the endpoint and carries out what comes back, and what that brings about in turn.
func (h *Host) ike(now time.Time, ev ikev2.Event) {
	h.queue = append(h.queue, ev)
	if h.draining {
		return
	}
	h.draining = true
	for len(h.queue) > 0 {
		next := h.queue[0]
		h.queue = h.queue[1:]
		h.acts = h.endpoint.Step(now, next, h.acts[:0])
		for _, a := range h.acts {
			h.act(now, a)
		}
	}
	h.queue, h.draining = h.queue[:0], false
}

func (h *Host) act(now time.Time, a ikev2.Action) {
	switch a := a.(type) {
	case ikev2.Send:
		h.out = append(h.out, Send{a.Local, a.Remote, a.Data})
	case ikev2.Keepalive:
		h.out = append(h.out, Keepalive{a.Local, a.Remote})
	case ikev2.Compute:
		h.out = append(h.out, Compute{a.Job})
	case ikev2.FindCredential:
		h.findCredential(now, a)
	case ikev2.JudgePeer:
		h.judgePeer(now, a)
	case ikev2.JudgeChild:
		h.judgeChild(now, a)
	case ikev2.SAUp:
		h.saUp(now, a)
	case ikev2.SARekeyed:
		h.saRekeyed(now, a)
	case ikev2.SADown:
		h.saDown(now, a)
	case ikev2.ChildUp:
		h.childUp(now, a)
	case ikev2.ChildUse:
		if p := h.sas.Get(uint64(a.Child)); p != nil {
			h.use(p)
		}
	case ikev2.ChildDown:
		h.childDown(now, a)
	case ikev2.ChildFailed:
		h.childFailed(now, a)
	case ikev2.SAMoved:
		h.saMoved(a)
	case ikev2.PeerLeaving:
		if s := h.sessions[a.SA]; s != nil {
			s.leaving = true
		}
	case ikev2.Proven:
		if s := h.sessions[a.SA]; s != nil {
			s.proven, s.alive = true, h.moment(now)
			s.proofs = min(s.proofs+1, maxProofs)
			h.settleTwins(now, s.peer)
		}
	case ikev2.Stated:
		h.stated(now, a)
	case ikev2.Told:
		h.acknowledged(a)
	case ikev2.Heard:
		h.probes.Heard(now, a.Remote.Addr())
	case ikev2.Notice:
		h.notice(now, a)
	}
}

// sessionOf returns what is known of an IKE SA, making it at the first question about it. No question follows when it is up:
// then its addresses are those that have been judged.
func (h *Host) sessionOf(now time.Time, sa ikev2.Handle, local, remote netip.AddrPort) *session {
	s := h.sessions[sa]
	if s == nil {
		s = &session{handle: sa, began: h.moment(now)}
		h.sessions[sa] = s
	}
	s.local, s.remote = local.Addr(), remote
	return s
}

func (h *Host) saUp(now time.Time, a ikev2.SAUp) {
	s := h.sessionOf(now, a.SA, a.Local, a.Remote)
	p := s.peer
	if p == nil {
		p = h.peerOf(now, s)
		s.peer = p
	}
	s.up, s.initiator, s.who, s.nat = true, a.Initiator, a.Peer, a.NAT
	s.btns, s.suite, s.nonce, s.alive = a.Btns, a.Suite, nonceFrom(a.Nonce), h.moment(now)
	s.upSince = s.alive
	p.take(s)
	h.tried(s)
	if p.attempt == a.SA {
		p.attempt = 0
	}
	s.failed = uint8(min(p.trouble().fails, maxPauses))
	if !p.local.IsValid() {
		p.local = a.Local.Addr()
	}
	h.probes.Note(now, p.addr, probe.Answers, 0)
	p.waits, p.accepted = false, false
	p.suffers(func(t *trouble) { t.fails, t.retryAt, t.last, t.closed = 0, time.Time{}, outcome{}, false })
	h.shut(now, p, "the IKE SA has no child SA yet")
	if a.InitialContact && !a.Peer.Key.IsZero() {
		h.initialContact(now, s)
	}
	h.greetTwins(now, p)
	h.greet(now, s, a)
}

// initialContact deletes the older SAs of the same key and address pair: the peer says that they are gone
// (RFC 7296 §2.4, BTNS-CORE-14). An SA under another key is none of its business.
func (h *Host) initialContact(now time.Time, s *session) {
	for _, o := range append([]*session(nil), s.peer.sessions...) {
		if o != s && o.who.Key == s.who.Key && o.remote.Addr() == s.remote.Addr() {
			h.ike(now, ikev2.DeleteSA{SA: o.handle, Silent: true})
		}
	}
}

func (h *Host) saRekeyed(now time.Time, a ikev2.SARekeyed) {
	if s := h.sessions[a.SA]; s != nil && s.peer != nil {
		h.report(now, Report{Kind: Rekeyed, Level: Debug, Remote: s.peer.addr, Key: s.who.Key.Fingerprint(), Text: "the IKE SA goes on under new keys"})
	}
}

func (h *Host) saDown(now time.Time, a ikev2.SADown) {
	s := h.sessions[a.SA]
	if s == nil {
		return
	}
	delete(h.sessions, a.SA)
	h.acquainted(s)
	h.tried(s)
	for _, p := range s.promised {
		h.sas.Release(p.spi)
	}
	defer h.farewellDone()
	if !a.WasUp {
		h.tellUnproven(now, s, a.Err)
	}
	p := s.peer
	if p == nil { // a stranger's attempt that came to nothing; judgePeer has told why
		return
	}
	p.drop(s)
	h.compareEnds(s)
	if p.attempt == a.SA {
		p.attempt = 0
	}
	if s.replaces != 0 && !a.WasUp {
		h.notRenewed(now, a, s.replaces)
	}
	switch {
	case len(p.sessions) > 0: // another SA serves
		h.survived(now, p)
	case p.attempt != 0:
	case !a.WasUp:
		h.attemptFailed(now, p, a.Err)
	default:
		h.lost(now, p, s, a)
	}
}

// lost decides what becomes of the traffic of a peer whose last IKE SA is gone.
func (h *Host) lost(now time.Time, p *peer, s *session, a ikev2.SADown) {
	if s.leaving {
		h.suspend(s)
	}
	switch {
	case h.stopping:
		return
	case s.leaving:
		h.report(now, Report{Kind: PeerLeft, Level: Info, Remote: p.addr, Key: s.who.Key.Fingerprint(), Text: "the peer stopped in good order"})
	case errors.Is(a.Err, ikev2.ErrCertificatesEnded):
		h.report(now, Report{
			Kind: Unprotected, Level: Warn, Remote: p.addr, Key: s.who.Key.Fingerprint(), Reason: certificateReason(chain.Expired),
			Text: "the certificates of the peer have ended, and its SAs with them",
		})
	case a.Err != nil:
		h.report(now, Report{Kind: Unprotected, Level: Warn, Remote: p.addr, Key: s.who.Key.Fingerprint(), Text: "the peer no longer answers: its SAs are gone", Reason: DeadPeer})
	default:
		h.report(now, Report{Kind: Unprotected, Level: Info, Remote: p.addr, Key: s.who.Key.Fingerprint(), Text: "the SAs with the peer were deleted"})
	}
	if !h.required(now, p) {
		h.enter(now, p, StateClear, "there is no SA with this peer any more, and policy does not require one", "")
		h.forgetIdle(now, p)
		return
	}
	h.enter(now, p, StateNegotiating, "the next packet makes new SAs", "")
	again := p.cfg != nil && p.cfg.Start == StartUp || a.Err != nil
	if a.Err != nil && now.Sub(h.time(s.began)) < shortLived {
		p.suffers(func(t *trouble) { t.fails = int(s.failed) })
		if p.failed(now); again {
			h.alarms.add(p.trouble().retryAt, tryAgain, p.addr, 0)
		}
		return
	}
	if again {
		h.attempt(now, p, nil)
	}
}

// shortLived is the life of an IKE SA that counts as an attempt which failed: each of two hosts may let the other in and be
// turned away by it, and they would begin again and again without a pause.
const shortLived = 5 * time.Second

// attemptFailed is told that an IKE SA which we began never came up.
func (h *Host) attemptFailed(now time.Time, p *peer, err error) {
	if h.stopping {
		return
	}
	p.accepted = false
	o := outcomeOf(err, p.trouble().closed)
	h.conclude(now, p, o)
	p.failed(now)
	why := o.why
	if !h.required(now, p) {
		h.report(now, Report{Kind: ProbeFailed, Level: Debug, Remote: p.addr, Text: "not protected: " + why, Reason: o.reason})
		h.enterFor(now, p, StateClear, o.reason, why, "")
		h.forgetIdle(now, p) // package probe remembers, within bounds
		return
	}
	state, hint := StateOutage, fmt.Sprintf("check that UDP ports 500 and 4500 reach %v; to speak to it in clear again: btns trust forget %v", p.addr, p.addr)
	if p.cfg != nil {
		hint = fmt.Sprintf("check that UDP ports 500 and 4500 reach %v, and the entry of peer %q in the configuration", p.addr, p.cfg.Name)
	}
	var unproven *chain.Error
	switch {
	case refusedByTrust(err):
		state, hint = StateRefused, p.trouble().hint
		if p.trouble().why != "" {
			why = p.trouble().why
		}
	case errors.As(err, &unproven):
		state, hint, why = StateRefused, o.reason.Meaning().Hint, unproven.Text
	default:
		h.report(now, Report{Kind: Outage, Level: Warn, Remote: p.addr, Text: "must be protected and cannot be: " + why, Hint: hint, Reason: o.reason})
	}
	h.enterFor(now, p, state, o.reason, why, hint)
	if state == StateOutage {
		h.fallSilent(now, p)
	}
	if p.cfg != nil && p.cfg.Start == StartUp {
		h.alarms.add(p.trouble().retryAt, tryAgain, p.addr, 0)
	}
}

// saMoved sends packets to where those of a peer behind a NAT come from now (RFC 7296 §2.23), and changes nothing else: what
// the peer is, has and counts for stays with the address at which it was authenticated. Traffic to the new address is not its.
func (h *Host) saMoved(a ikev2.SAMoved) {
	for _, pair := range h.sas.Owned(uint64(a.SA)) {
		h.change(dataplane.MoveSA{ID: flow.PairID(pair.ID), Remote: a.Remote})
	}
}

func (h *Host) notice(now time.Time, a ikev2.Notice) {
	r := Report{Kind: IKENotice, Level: Debug, Remote: a.Remote.Addr(), Text: a.Text, Reason: ikeReason(a.Reason)}
	h.report(now, r)
}
