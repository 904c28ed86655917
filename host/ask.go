package host

import (
	"net/netip"
	"slices"
	"time"

	"github.com/btns-ipsec/btns/trust"
)

// In the trust mode ask an unknown key waits until the operator accepts it, and traffic with its address is held
// meanwhile (BTNS-TRUST-10).

// maxWaiting is for how many addresses traffic is held on account of keys that wait: whoever has many addresses must not
// fill this host. The oldest gives way.
const maxWaiting = 1024

// await begins to hold the traffic of a peer whose key has just been turned away, and reports whether it is held. What
// came through a NAT says nothing about its address: others are behind it.
func (h *Host) await(now time.Time, s *session) bool {
	addr := s.remote.Addr()
	if s.nat.Peer && !s.initiator || !h.protects(addr) || h.book.Essential(addr) {
		return false
	}
	p := h.peerFor(addr)
	switch {
	case p == nil:
		p = h.peerAt(now, addr)
	case p.cfg != nil || len(p.sessions) > 0:
		return false
	}
	if p.waits = true; !p.local.IsValid() {
		p.local = s.local
	}
	h.crowd.waiting = slices.DeleteFunc(h.crowd.waiting, func(a netip.Addr) bool { return a == addr })
	h.crowd.waiting = append(h.crowd.waiting, addr)
	if len(h.crowd.waiting) > maxWaiting {
		h.waitedLong(now, h.crowd.waiting[0])
		h.crowd.waiting = slices.Delete(h.crowd.waiting, 0, 1)
	}
	return true
}

func (h *Host) waitedLong(now time.Time, addr netip.Addr) {
	if p := h.peers[addr]; p != nil {
		p.waits = false
		h.freed(now, addr, "its key waits for the operator, and too many do")
	}
}

// awaits reports whether traffic with p is held because its key waits for the operator, or was accepted and the attempt
// that follows is under way.
func (h *Host) awaits(p *peer) bool {
	return p.waits && h.protects(p.addr) && !h.book.Essential(p.addr) && (p.accepted || len(h.waitingKeys(p.addr)) > 0)
}

// waitingKeys are the keys of an address that wait, the last one first.
func (h *Host) waitingKeys(addr netip.Addr) (out []trust.Refused) {
	for _, r := range h.book.Refused(addr, h.around.Network) {
		if r.Waiting {
			out = append(out, r)
		}
	}
	return out
}

// waiting tells of the keys that wait, and how they are let in.
func (w *walk) waiting(addr netip.Addr) {
	for _, r := range w.h.waitingKeys(addr) {
		key := r.Key.Fingerprint()
		w.say(stepTrust, "the key %v waits for your word since %s; after comparing it: btns trust accept %v %v",
			key, r.First.Format(time.DateTime), addr, key)
	}
}
