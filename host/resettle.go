package host

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/btns-ipsec/btns/dataplane"
	"github.com/btns-ipsec/btns/dataplane/flow"
	"github.com/btns-ipsec/btns/ikev2"
	"github.com/btns-ipsec/btns/policy"
	"github.com/btns-ipsec/btns/protect"
	"github.com/btns-ipsec/btns/sad"
)

// What becomes of SAs and of traffic when another configuration comes into force.

// stillGranted says why a pair could not be made any more, or nil.
func (h *Host) stillGranted(s *session, pair *sad.Pair) error {
	g, err := h.policy.AuthorizeChild(s.ref(), pair.Local, pair.Remote, pair.Mode, h.heldByOthers(s))
	switch {
	case err != nil:
		return err
	case !g.Local.Covers(pair.Local) || !g.Remote.Covers(pair.Remote):
		return fmt.Errorf("host: SPD entry %q grants less traffic than the SA carries", g.Entry.Name)
	case g.Mode != pair.Mode:
		return fmt.Errorf("host: SPD entry %q wants %v mode", g.Entry.Name, g.Mode)
	case !slices.ContainsFunc(g.Entry.Offer, func(o protect.Suite) bool { return offers(o, pair.Suite) }):
		return fmt.Errorf("host: SPD entry %q no longer offers %v", g.Entry.Name, pair.Suite)
	}
	return nil
}

// offers reports whether used can have come of an offer; extended sequence numbers are preferred, not demanded.
func offers(offer, used protect.Suite) bool {
	if !used.ESN {
		offer.ESN = false
	}
	return offer == used
}

// sever ends a pair here, before the peer has heard of it.
func (h *Host) sever(c *change, s *session, pair *sad.Pair, why error) {
	h.change(dataplane.RemoveSA{ID: flow.PairID(pair.ID)})
	h.sas.Remove(pair.ID)
	h.standIn(pair)
	c.ended++
	c.say("%v: SAs ended: %v", pair.Peer, why)
	h.report(c.now, Report{
		Kind: Unprotected, Level: Warn, Remote: pair.Peer, Key: s.who.Key.Fingerprint(), Reason: Reconfigured,
		Text: "the configuration no longer allows the SAs with this peer: " + why.Error(),
	})
}

// expel ends an IKE SA whose peer may not be here any more. It counts for nothing from now on, whatever the peer answers.
func (h *Host) expel(c *change, s *session, why error) {
	for _, pair := range h.sas.Owned(uint64(s.handle)) {
		h.sever(c, s, pair, why)
	}
	s.peer.drop(s)
	s.peer, s.pad = nil, nil
	h.ike(c.now, ikev2.DeleteSA{SA: s.handle})
}

// replacePeers puts other configured peers in the place of those there are. An address keeps its IKE SAs: whether they
// stay is judged after this.
func (h *Host) replacePeers(c *change, peers []Peer) {
	before := make(map[*peer]*Peer, len(h.named))
	for _, p := range h.named {
		before[p], p.cfg = p.cfg, nil
	}
	h.named, h.lengths = nil, nil
	clear(h.byName)
	clear(h.roaming)
	clear(h.inside)
	h.cfg.Peers = slices.Clone(peers)
	c.widened = make(map[*peer]bool)
	for i := range h.cfg.Peers {
		cfg := h.ownKey(&h.cfg.Peers[i])
		if !cfg.Remote.IsValid() {
			h.roaming[cfg.Name] = cfg
			continue
		}
		p := h.peerAt(c.now, cfg.Remote)
		old := before[p]
		delete(before, p)
		p.cfg = cfg
		if cfg.Local.IsValid() {
			p.local = cfg.Local
		}
		switch {
		case old == nil:
			c.say("peer %q added", cfg.Name)
		case !cfg.equal(old):
			c.say("peer %q changed", cfg.Name)
		default:
			h.enlist(p)
			continue
		}
		had := p.hostPrefix()
		if old != nil {
			had = old.prefixes()
		}
		c.widened[p] = old != nil && !cfg.sameTraffic(old) || !slices.Equal(had, cfg.prefixes())
		p.fresh()
		h.reprefix(c, p, had)
		h.enlist(p)
	}
	for _, p := range h.sortedPeers() {
		if old := before[p]; old != nil {
			c.say("peer %q removed", old.Name)
			h.reprefix(c, p, old.prefixes())
		}
	}
}

// reprefix is told what belonged to p. What becomes of what no longer does is settled last.
func (h *Host) reprefix(c *change, p *peer, had []netip.Prefix) {
	if !slices.Equal(had, p.prefixes()) {
		c.gone = append(c.gone, had...)
		p.installed = flow.Clear
	}
}

// resettle gives p the state that follows from what is left of it.
func (h *Host) resettle(c *change, p *peer) {
	h.abandon(c, p)
	required := h.required(c.now, p)
	switch {
	case h.sends(p):
		h.enter(c.now, p, StateProtected, "", "")
		h.widen(c, p)
	case !h.protects(p.addr) && p.cfg == nil:
		h.unprotect(c, p)
	case p.attempt != 0 && required:
		h.enter(c.now, p, StateNegotiating, p.trouble().why, p.trouble().hint)
	case p.attempt != 0:
		h.enter(c.now, p, StateProbing, p.trouble().why, p.trouble().hint)
	case !required:
		h.enter(c.now, p, StateClear, p.trouble().why, "")
	case p.state == StateOutage || p.state == StateRefused:
		h.enter(c.now, p, p.state, p.trouble().why, p.trouble().hint)
	default:
		h.enter(c.now, p, StateNegotiating, "required by the configuration; the next packet makes SAs", "")
	}
	if p.attempt == 0 && (c.begun[p] || p.cfg != nil && p.cfg.Start == StartUp) {
		h.attempt(c.now, p, nil)
	}
	h.forgetIdle(c.now, p)
}

// unprotect is about a peer whose traffic the policy lets pass, or discards.
func (h *Host) unprotect(c *change, p *peer) {
	d := h.policy.Outbound(flowTo(p.local, p.addr))
	if d.Action == policy.Discard {
		h.enter(c.now, p, StateRefused, fmt.Sprintf("the policy entry %q discards traffic with it", d.Name), "")
		return
	}
	h.enter(c.now, p, StateClear, fmt.Sprintf("the policy entry %q leaves traffic with it alone", d.Name), "")
}

// abandon gives up an attempt that the policy has no use for.
func (h *Host) abandon(c *change, p *peer) {
	if s := h.sessions[p.attempt]; s != nil && p.cfg == nil && !h.protects(p.addr) {
		h.giveUp(c, s)
	}
	if !h.required(c.now, p) || c.begun[p] {
		p.fresh()
	}
}

// widen makes a further child with a configured peer whose traffic is no longer what its SAs are for.
func (h *Host) widen(c *change, p *peer) {
	s := p.session()
	if !c.widened[p] || s == nil || p.cfg == nil || p.cfg.Start == StartListen {
		return
	}
	if child, ok := h.request(p, nil); ok {
		s.promises(child.ID, child.SPI)
		h.ike(c.now, ikev2.CreateChild{SA: s.handle, Child: child})
	}
}

// owner is the peer that decides about exactly this prefix, or nil.
func (h *Host) owner(prefix netip.Prefix) *peer {
	owns := func(p *peer) bool { return p.installed != flow.Clear && slices.Contains(p.prefixes(), prefix) }
	if i := slices.IndexFunc(h.named, owns); i >= 0 {
		return h.named[i]
	}
	if p := h.peers[prefix.Addr()]; p != nil && owns(p) {
		return p
	}
	return nil
}

// uncover settles prefixes that have changed hands.
func (h *Host) uncover(gone []netip.Prefix) {
	for _, prefix := range gone {
		c := dataplane.SetPrefix{Prefix: prefix, State: flow.Clear}
		if p := h.owner(prefix); p != nil {
			c.State, c.Local = p.installed, h.insideLocal(p)
		}
		h.change(c)
	}
}
