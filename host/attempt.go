package host

import (
	"net/netip"
	"time"

	"github.com/btns-ipsec/btns/dataplane"
	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/ikev2"
	"github.com/btns-ipsec/btns/policy"
	"github.com/btns-ipsec/btns/probe"
	"github.com/btns-ipsec/btns/protect"
	"github.com/btns-ipsec/btns/selector"
)

const (
	portIKE      = 500
	politeProbes = 3 // datagrams to an address that may not want any (design.md)
)

// acquire is told of a packet to an address without an SA.
func (h *Host) acquire(now time.Time, ev dataplane.Acquire) {
	f := ev.Flow
	p := h.peerFor(f.Remote)
	if p == nil {
		h.stranger(now, f)
		return
	}
	if !p.local.IsValid() && p.addr == f.Remote {
		p.local = f.Local
	}
	if p.cfg == nil && (p.state == StateClear || p.state == StateProbing || len(p.sessions) == 0 && !h.required(now, p)) {
		h.stranger(now, f)
		return
	}
	if p.cfg != nil && p.cfg.Start == StartListen && len(p.sessions) == 0 {
		return
	}
	h.attempt(now, p, &f)
}

// stranger decides whether an address that is not protected, and need not be, is tried.
func (h *Host) stranger(now time.Time, f selector.Flow) {
	d := h.policy.Outbound(f)
	if d.Action != policy.Protect || d.Fallback == policy.Never && !h.sticky(now, f.Remote) {
		return
	}
	required := d.Fallback == policy.Require || h.sticky(now, f.Remote)
	if !required && (!h.speaksOn(f.Local) || !h.probes.Want(now, f.Remote)) {
		return
	}
	if h.hurried(now, f.Remote) { // the packet waits, and the next one asks again
		return
	}
	p := h.peerAt(now, f.Remote)
	if p.attempt != 0 {
		return
	}
	p.local = f.Local
	h.attempt(now, p, &f)
}

// peerFor returns the peer that a destination belongs to, or nil.
func (h *Host) peerFor(dst netip.Addr) *peer {
	for _, bits := range h.lengths {
		if prefix, err := dst.Prefix(bits); err == nil {
			if p := h.inside[prefix]; p != nil {
				return p
			}
		}
	}
	return h.peers[dst]
}

// attempt begins to make SAs with p unless there are some, or it is being done, or it is too soon.
func (h *Host) attempt(now time.Time, p *peer, trigger *selector.Flow) {
	h.shut(now, p, "SAs are to be made")
	switch {
	case h.stopping || p.attempt != 0 || p.asking || h.served(p, trigger):
		return
	case p.session() != nil && len(p.session().promised) > 0 || h.announces(p): // a child is being made
		return
	case p.cfg == nil && !h.protects(p.addr):
		return
	case p.trouble().fails > 0 && now.Before(p.trouble().retryAt):
		return
	case !p.local.IsValid():
		if h.populates(p) {
			p.packet = trigger
		}
		h.askSource(p)
		return
	case !h.speaksOn(p.local):
		h.mute(now, p)
		return
	case trigger == nil && p.session() != nil && h.populates(p): // a packet says what for
		return
	}
	child, ok := h.request(p, trigger)
	if !ok {
		return
	}
	if s := p.session(); s != nil { // the IKE SA is there, only the child is missing
		s.promises(child.ID, child.SPI)
		h.ike(now, ikev2.CreateChild{SA: s.handle, Child: child})
		return
	}
	h.initiate(now, p, child, trigger, nil)
}

// initiate begins an IKE SA; old is the session whose place it is to take, nil when there is none.
func (h *Host) initiate(now time.Time, p *peer, child ikev2.ChildRequest, trigger *selector.Flow, old *session) {
	sa := h.endpoint.NewHandle()
	s := h.sessionOf(now, sa, netip.AddrPortFrom(p.local, portIKE), netip.AddrPortFrom(p.addr, portIKE))
	s.peer, s.initiator = p, true
	p.attempt = sa
	h.tries(now, s)
	required := h.required(now, p)
	init := ikev2.Initiate{
		SA: sa, Local: netip.AddrPortFrom(s.local, portIKE), Remote: s.remote,
		Credential: h.self(), Child: &child, Encap: h.cfg.Encap,
		InitialContact: h.expectsKey(now, p),
	}
	if p.cfg != nil {
		init.Credential, init.Override = p.cfg.selfAt(p.local), p.cfg.IKE
		init.Anchors, init.InitialContact = h.vouchers[p.cfg.Name], true
		init.Expect.ID = h.calls(p.cfg.Name)
	}
	if p.cfg != nil && (p.cfg.Childless || trigger == nil && h.populates(p)) {
		init.Child = nil
		h.sas.Release(child.SPI)
	} else {
		s.promises(child.ID, child.SPI)
	}
	switch {
	case old != nil: // what flows goes on
		s.replaces = old.handle
	case !required:
		init.Quick = politeProbes
		h.beginProbe(now, p)
	case p.trouble().fails == 0 || p.state != StateOutage && p.state != StateRefused: // else what is wrong goes on to be said
		h.enter(now, p, StateNegotiating, "making SAs", "")
	}
	h.ike(now, init)
}

// self is how this host shows itself to whoever has not been configured (BTNS-CORE-30, BTNS-CORE-42).
func (h *Host) self() ikev2.Local {
	return ikev2.Local{ID: identity.Null(), Method: ikev2.Signature, Key: h.cfg.Signer, SendKey: true}
}

// request describes the child SA that p's traffic needs.
func (h *Host) request(p *peer, trigger *selector.Flow) (ikev2.ChildRequest, bool) {
	spi, err := h.sas.Reserve(h.rand)
	if err != nil {
		return ikev2.ChildRequest{}, false
	}
	r := ikev2.ChildRequest{ID: h.endpoint.NewChild(), SPI: spi}
	if c := p.cfg; c != nil {
		r.Local, r.Remote = c.selectors(p.local)
		r.Mode, r.Strict, r.Offer, r.KE, r.Lifetime = c.Mode, c.Mode == protect.Transport, c.Offer, c.KE, c.Lifetime
		if trigger != nil {
			if d := h.policy.Outbound(*trigger); populated(d) {
				r.Local, r.Remote = d.Propose(*trigger)
			}
		}
		return r, true
	}
	f := flowTo(p.local, p.addr)
	if trigger != nil {
		f = *trigger
	}
	d := h.policy.Outbound(f)
	if d.Action != policy.Protect {
		f = flowTo(p.local, p.addr)
		d = h.policy.Outbound(f)
	}
	f.Local, f.Remote = p.local, p.addr
	r.Local, r.Remote = proposal(d, f)
	r.Mode, r.Strict = protect.Transport, true
	r.Offer, r.Lifetime = d.Offer, d.Lifetime
	return r, true
}

func (h *Host) askSource(p *peer) {
	if !p.asking {
		p.asking = true
		h.out = append(h.out, FindSource{p.addr})
	}
}

func (h *Host) sourceFound(now time.Time, ev SourceFound) {
	p := h.peers[ev.Remote]
	if p == nil || !p.asking {
		return
	}
	packet := p.packet
	p.asking, p.packet = false, nil
	if ev.Err != nil || ev.Local == ev.Remote {
		h.noSource(now, p, ev)
		return
	}
	if s := h.sessions[p.attempt]; s != nil && s.local != ev.Local {
		s.peer, p.attempt = nil, 0 // that attempt speaks from an address that is no longer ours
		h.ike(now, ikev2.DeleteSA{SA: s.handle, Silent: true})
	}
	if s := p.session(); s != nil && s.local != ev.Local {
		p.local = ev.Local
		for _, s := range append([]*session(nil), p.sessions...) {
			h.ike(now, ikev2.DeleteSA{SA: s.handle, Silent: true})
		}
		if p.cfg == nil {
			p = h.peerAt(now, ev.Remote) // it may have been forgotten with its last SA
		}
		p.local = ev.Local
		p.fresh()
		h.attempt(now, p, nil)
		return
	}
	p.local = ev.Local
	if len(p.sessions) == 0 {
		h.attempt(now, p, packet)
	}
}

// connect asks for protection as a packet would, and waits for no pause.
func (h *Host) connect(now time.Time, ev Connect) {
	addr := ev.Remote
	p := h.peerFor(addr)
	if p == nil {
		if !probe.Possible(addr) || h.policy.Outbound(flowTo(netip.Addr{}, addr)).Action != policy.Protect {
			return // no host, or one that policy leaves alone
		}
		p = h.peerAt(now, addr)
	}
	h.call(now, p, ev.Name)
	p.suffers(func(t *trouble) { t.retryAt = time.Time{} })
	h.probes.Heard(now, addr)
	h.attempt(now, p, nil)
}
