package host

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/btns-ipsec/btns/ikev2"
	"github.com/btns-ipsec/btns/policy"
	"github.com/btns-ipsec/btns/selector"
)

// The three questions of ikev2, and who answers them.

var (
	errStopping  = errors.New("host: stopping")
	errOtherPeer = errors.New("another peer answered")
)

// findCredential searches the PAD for what the peer asserts (BTNS-CORE-06). Nothing is verified yet.
func (h *Host) findCredential(now time.Time, q ikev2.FindCredential) {
	s := h.sessionOf(now, q.SA, q.Local, q.Remote)
	asserted := policy.Asserted{ID: q.ID, Method: policy.Method(q.Method), Key: q.Key, Chain: len(q.Certificates) > 0, Addr: q.Remote.Addr()}
	entry, err := h.policy.FindPAD(asserted)
	if err == nil && h.stopping {
		err = errStopping
	}
	if c := s.configured(); err == nil && c != nil && entry.Name != c.Name {
		err = fmt.Errorf("host: %w: %v is %q", errOtherPeer, q.Remote.Addr(), entry.Name)
	}
	if err == nil {
		err = h.newKey(now, s, q, entry.Kind)
	}
	if err != nil {
		if !errors.Is(err, errFlood) { // which has been told
			h.report(now, Report{Kind: PeerRefused, Level: Warn, Remote: q.Remote.Addr(), Key: q.Key.Fingerprint(), Text: err.Error(), Reason: refusalOf(err)})
		}
		h.ike(now, ikev2.Credential{SA: q.SA, Refuse: err})
		return
	}
	s.pad, s.who.ID = entry, q.ID
	h.claim(s, entry.Kind == policy.ByID || entry.Kind == policy.ByKey)
	answer := ikev2.Credential{SA: q.SA}
	answer.Local, answer.Override = h.selfFor(entry.Name, q.Local.Addr(), q.Wanted)
	if entry.Kind == policy.Null && h.cfg.IKE.Liveness == 0 {
		answer.Override = alive(answer.Override, withoutKeyAlive)
	}
	proof := entry.Proof(asserted)
	answer.Remote = ikev2.Remote{Keys: proof.Keys, PSK: proof.PSK, AnyNull: proof.Null}
	if len(proof.Anchors) > 0 {
		answer.Remote.Anchors = h.vouchers[entry.Name]
	}
	if proof.PSK != nil || len(proof.Anchors) > 0 {
		answer.Remote.ID = proof.ID
	}
	h.ike(now, answer)
}

// alive is o with liveness checks, unless it has some.
func alive(o *ikev2.Override, every time.Duration) *ikev2.Override {
	var out ikev2.Override
	if o != nil {
		out = *o
	}
	out.Liveness = cmp.Or(out.Liveness, every)
	return &out
}

func (h *Host) configuredFor(name string) *Peer {
	if p := h.byName[name]; p != nil {
		return p.cfg
	}
	return nil
}

func (s *session) configured() *Peer {
	if s.peer == nil {
		return nil
	}
	return s.peer.cfg
}

// peerOf returns the peer that an IKE SA which the other side began belongs to.
func (h *Host) peerOf(now time.Time, s *session) *peer {
	if s.pad != nil {
		if p := h.byName[s.pad.Name]; p != nil {
			return p
		}
	}
	return h.peerAt(now, s.remote.Addr())
}

// judgePeer answers whether a peer whose AUTH has verified may be here: the PAD has said yes, trust compares its key
// with the record of its address.
func (h *Host) judgePeer(now time.Time, q ikev2.JudgePeer) {
	s := h.sessionOf(now, q.SA, q.Local, q.Remote)
	s.initiator, s.nat, s.who = q.Initiator, q.NAT, q.Peer
	v := h.judgeKey(now, s, q.Peer, s.named)
	s.assurance = v.Assurance
	if v.Refuse != nil {
		h.tellRefusal(now, s, q.Peer, v)
	}
	if v.Warn != nil {
		h.tellOtherAddress(now, s, v.Warn)
	}
	if v.Refuse == nil {
		if v.Refuse = h.admit(now, s, q.Peer.Key); v.Refuse != nil {
			h.report(now, Report{Kind: PeerRefused, Level: Warn, Remote: q.Remote.Addr(), Key: q.Peer.Key.Fingerprint(), Text: v.Refuse.Error(), Reason: Crowded})
		}
	}
	h.ike(now, ikev2.PeerJudged{SA: q.SA, Refuse: v.Refuse, Known: !s.stranger})
}

// ref is the peer of a session for policy. Its address is the one for which its key has been judged, wherever its packets come
// from now: a move is one packet from an address that nobody has verified.
func (s *session) ref() policy.PeerRef {
	return policy.PeerRef{Entry: s.pad, Assurance: s.assurance, LocalAddr: s.local, RemoteAddr: s.remote.Addr()}
}

// judgeChild answers which selectors a child may have (BTNS-CORE-13: for every child and rekey, in both roles).
func (h *Host) judgeChild(now time.Time, q ikev2.JudgeChild) {
	answer := ikev2.ChildJudged{SA: q.SA, Child: q.Child}
	answer.Refuse = h.fillChild(now, &answer, q)
	if answer.Refuse != nil && q.Stage != ikev2.Propose {
		h.report(now, Report{Kind: PeerRefused, Level: Warn, Remote: q.RemoteAddr, Key: q.Peer.Key.Fingerprint(), Text: answer.Refuse.Error(), Reason: refusalOf(answer.Refuse)})
	}
	h.ike(now, answer)
}

func (h *Host) fillChild(now time.Time, answer *ikev2.ChildJudged, q ikev2.JudgeChild) error {
	s := h.sessions[q.SA]
	if s == nil || s.pad == nil {
		return errors.New("host: a child of an unknown IKE SA")
	}
	ref := s.ref()
	held, local := h.heldByOthers(s), q.Local
	if s.pad.Kind == policy.Null {
		others := h.heldWithoutKey(now, s, q.Remote)
		held, local = append(held, others...), local.Subtract(others)
	}
	grant, err := h.policy.AuthorizeChild(ref, local, q.Remote, q.Mode, held)
	if err == nil {
		switch pinned := h.pinnedByOthers(now, s, grant.Remote); {
		case len(pinned) > maxPinned:
			err = &policy.ChildError{Peer: s.pad.Name, Local: q.Local, Remote: q.Remote, Why: "too many of these addresses are recorded for other keys"}
		case len(pinned) > 0:
			grant, err = h.policy.AuthorizeChild(ref, local, q.Remote, q.Mode, append(held, pinned...))
		}
	}
	if err != nil {
		return err
	}
	answer.Local, answer.Remote, answer.Mode = h.sameLocal(grant.Local), grant.Remote, grant.Mode
	answer.Offer, answer.KE, answer.Lifetime = grant.Entry.Offer, grant.Entry.KE, grant.Entry.Lifetime
	if q.Stage == ikev2.Answered {
		return nil
	}
	if answer.SPI, err = h.sas.Reserve(h.rand); err == nil {
		s.promises(q.Child, answer.SPI)
	}
	return err
}

// sameLocal is s, in the memory of the set before it when that was equal: children with many peers have one local end.
func (h *Host) sameLocal(s selector.Set) selector.Set {
	if !slices.Equal(h.local, s) {
		h.local = s
	}
	return h.local
}

// roams reports whether a named peer is one from anywhere.
func (s *session) roams() bool { return s.named && s.pad.Roams() }

// heldByOthers is what live SAs of others carry: unnamed peers, and those from anywhere, cannot have what named ones have
// (core.md §4), nor peers without a key what peers with one have (BTNS-NULL-08).
func (h *Host) heldByOthers(s *session) selector.Set {
	if s.named && !s.roams() {
		return nil
	}
	others := h.claimants()
	if s.pad.Kind == policy.Null {
		others = h.sortedSessions()
	}
	var held selector.Set
	for _, o := range others {
		if o == s || !o.named && o.who.Key.IsZero() || s.named && o.roams() { // who roams has a place beside others that do
			continue
		}
		for _, pair := range h.sas.Owned(uint64(o.handle)) {
			held = append(held, pair.Remote...)
		}
	}
	return held
}

// heldWithoutKey is what live SAs of other peers without a key carry. Each of them has only what is its own, and reaches
// none of the others (BTNS-NULL-10). Who asks for what another one has may be that one, which has lost its state: the other
// is checked, and what a dead one has is free (BTNS-NULL-11).
func (h *Host) heldWithoutKey(now time.Time, s *session, asked selector.Set) (held selector.Set) {
	for _, o := range h.sortedSessions() {
		if o == s || o.named || !o.who.Key.IsZero() {
			continue
		}
		mine := len(held)
		for _, pair := range h.sas.Owned(uint64(o.handle)) {
			held = append(held, pair.Remote...)
		}
		if held[mine:].Overlaps(asked) {
			h.ike(now, ikev2.Unanswered{SA: o.handle})
		}
	}
	return held
}

// withoutKeyAlive is how long a peer without a key may be silent before it is asked whether it lives: nothing but its SA
// tells it from others, so that one that is gone is to be forgotten soon (BTNS-NULL-11).
const withoutKeyAlive = time.Minute

// claim notes whether a session belongs to a named peer.
func (h *Host) claim(s *session, named bool) {
	if named && !s.named {
		h.claims = append(h.claims, s)
		if len(h.claims) > 2*len(h.sessions) {
			h.claimants() // those that ended go
		}
	}
	s.named = named
}

// claimants are the sessions of named peers, few among many.
func (h *Host) claimants() []*session {
	h.claims = slices.DeleteFunc(h.claims, func(s *session) bool { return !s.named || h.sessions[s.handle] != s })
	return h.claims
}

// policyRequires reports whether the SPD lets nothing but protected traffic go to an address.
func (h *Host) policyRequires(addr netip.Addr) bool {
	d := h.policy.Outbound(flowTo(netip.Addr{}, addr))
	return d.Action == policy.Protect && d.Fallback == policy.Require && !h.book.Essential(addr)
}

// flowTo is traffic of any kind to an address. An unknown own address is taken as the unspecified one.
func flowTo(local, remote netip.Addr) selector.Flow {
	if !local.IsValid() {
		local = netip.IPv6Unspecified()
		if remote.Is4() {
			local = netip.IPv4Unspecified()
		}
	}
	return selector.Flow{Local: local, Remote: remote}
}
