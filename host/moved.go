package host

import (
	"net/netip"
	"slices"
	"time"

	"github.com/btns-ipsec/btns/dataplane"
	"github.com/btns-ipsec/btns/dataplane/flow"
	"github.com/btns-ipsec/btns/ikev2"
	"github.com/btns-ipsec/btns/protect"
	"github.com/btns-ipsec/btns/sad"
	"github.com/btns-ipsec/btns/selector"
)

// A peer behind a NAT may get another address there (RFC 7296 §2.23). Its SAs follow, and for applications it stays, under
// those that there are, whom it was: what is connected stays connected. The next child, at a rekey at the latest, is for the
// new address. So the new address is protected from the move on, and the old one as long as an SA for it is there.

func (h *Host) saMoved(now time.Time, a ikev2.SAMoved) {
	s := h.sessions[a.SA]
	if s == nil {
		return
	}
	was := s.remote.Addr()
	if s.stranger {
		h.crowd.count(s, -1)
	}
	s.remote = a.Remote
	if s.stranger {
		h.crowd.count(s, 1)
	}
	for _, pair := range h.sas.Owned(uint64(a.SA)) {
		h.moveSA(flow.PairID(pair.ID), a.Remote)
	}
	if p := s.peer; s.up && p != nil && p.cfg == nil && was != a.Remote.Addr() && p.addr != a.Remote.Addr() {
		h.relocate(now, s, a.Remote.Addr())
	}
}

// relocate makes a session that of the peer at its new address.
func (h *Host) relocate(now time.Time, s *session, to netip.Addr) {
	old, p := s.peer, h.peerAt(now, to)
	old.drop(s)
	s.peer = p
	h.sas.Move(uint64(s.handle), to)
	p.take(s)
	if !p.local.IsValid() {
		p.local = s.local
	}
	if len(old.sessions) == 0 && old.attempt == 0 && p.cfg == nil {
		h.inherit(p, old)
	}
	if h.sends(p) {
		h.enter(now, p, StateProtected, "", "")
	} else {
		h.shut(now, p, "the peer has moved here, and has no child SA")
	}
}

// departed are addresses that peers behind NATs have left, and for which they still have SAs.
type departed struct {
	at map[netip.Addr]*peer
	of map[*peer][]netip.Addr
}

func (d *departed) add(a netip.Addr, p *peer) {
	if d.at == nil {
		d.at, d.of = make(map[netip.Addr]*peer), make(map[*peer][]netip.Addr)
	}
	d.at[a] = p
	d.of[p] = append(d.of[p], a)
}

func (d *departed) remove(a netip.Addr) *peer {
	p := d.at[a]
	if p == nil {
		return nil
	}
	delete(d.at, a)
	if d.of[p] = slices.DeleteFunc(d.of[p], func(o netip.Addr) bool { return o == a }); len(d.of[p]) == 0 {
		delete(d.of, p)
	}
	return p
}

// inherit has p decide about what belonged to a peer that is gone from there.
func (h *Host) inherit(p, old *peer) {
	delete(h.peers, old.addr)
	for _, a := range append(h.left.of[old], old.addr) {
		h.left.remove(a)
		h.left.add(a, p)
		if p.installed != old.installed { // one disposition for all of it
			h.change(dataplane.SetPrefix{Prefix: netip.PrefixFrom(a, a.BitLen()), State: p.installed, Local: p.local})
		}
	}
}

// reclaim gives an address that a peer has left to a new one there, as the plane has it.
func (h *Host) reclaim(p *peer) {
	if o := h.left.remove(p.addr); o != nil {
		p.installed = o.installed
	}
}

// vacate returns addresses that a peer has left and for which it has no SA any more.
func (h *Host) vacate(now time.Time, p *peer) {
	for _, a := range slices.Clone(h.left.of[p]) {
		if slices.ContainsFunc(h.sas.With(p.addr), func(pair *sad.Pair) bool { return pair.Remote.ContainsAddr(a) }) {
			continue
		}
		o := h.peerAt(now, a) // takes it
		if h.required(now, o) {
			h.enter(now, o, StateNegotiating, "the peer has left this address; the next packet makes SAs", "")
			continue
		}
		h.dispose(o, flow.Clear)
		h.forgetIdle(now, o)
	}
}

// atPresent is the selectors to propose for a new child in the place of one that was made before the peer has moved.
func atPresent(q ikev2.JudgeChild) selector.Set {
	if q.Stage != ikev2.Propose || q.Mode != protect.Transport || !q.NAT.Peer || q.Remote.ContainsAddr(q.RemoteAddr) {
		return q.Remote
	}
	out := slices.Clone(q.Remote)
	for i := range out {
		if out[i].From != out[i].To || out[i].From.Is4() != q.RemoteAddr.Is4() {
			return q.Remote
		}
		out[i].From, out[i].To = q.RemoteAddr, q.RemoteAddr
	}
	return out
}
