package host

import (
	"net/netip"
	"time"

	"github.com/btns-ipsec/btns/dataplane"
	"github.com/btns-ipsec/btns/dataplane/flow"
	"github.com/btns-ipsec/btns/ikev2"
)

func (h *Host) fromPlane(now time.Time, ev dataplane.Event) {
	switch ev := ev.(type) {
	case dataplane.Datagram:
		if !h.speaksOn(ev.Local.Addr()) {
			h.crowd.deaf++
			return
		}
		h.ike(now, ikev2.Datagram{Local: ev.Local, Remote: ev.Remote, Data: ev.Data})
	case dataplane.Acquire:
		h.acquire(now, ev)
	case dataplane.Carried:
		h.carried(now, ev.ID)
	case dataplane.Spent:
		h.spent(now, ev)
	case dataplane.Moved:
		if pair := h.sas.Get(uint64(ev.ID)); pair != nil {
			h.ike(now, ikev2.Moved{SA: ikev2.Handle(pair.Owner), Remote: ev.Remote})
		}
	case dataplane.UnknownSPI:
		h.unknownSPI(now, ev)
	case dataplane.Dropped:
		h.dropped(now, ev)
	case dataplane.PortClosed:
		h.portClosed(ev.Remote)
	case dataplane.AddressChanged:
		h.addressChanged(now)
	}
}

// carried is told of the first authentic packet on a pair: the peer has it and uses it.
func (h *Host) carried(now time.Time, id flow.PairID) {
	pair := h.sas.Get(uint64(id))
	if pair == nil {
		return
	}
	pair.Carried = true
	h.ike(now, ikev2.ChildCarried{Child: ikev2.ChildID(id)})
	s := h.sessions[ikev2.Handle(pair.Owner)]
	if s == nil || s.peer == nil {
		return
	}
	s.proven = true
	if pair.Announced {
		h.announced(now, pair)
	}
	if p := s.peer; p.state == StateProtected && p.installed == flow.Upgrade && !h.acceptsClear(now, p) {
		h.dispose(p, flow.Protect)
	}
	h.settleTwins(now, s.peer)
	if !s.recorded {
		h.readSoon(now)
	}
}

func (h *Host) spent(now time.Time, ev dataplane.Spent) {
	pair := h.sas.Get(uint64(ev.ID))
	if pair == nil {
		return
	}
	if ev.Hard {
		h.ike(now, ikev2.DeleteChild{Child: ikev2.ChildID(ev.ID)})
		return
	}
	h.ike(now, ikev2.RekeyChild{Child: ikev2.ChildID(ev.ID)})
}

// unknownSPI: ESP from a recorded peer under an SA that this host does not have says that this host has lost its state.
// It makes new ones; the unauthenticated packet brings about nothing that an ordinary packet would not (RFC 7296 §2.21.4).
func (h *Host) unknownSPI(now time.Time, ev dataplane.UnknownSPI) {
	h.drops[flow.UnknownSPI]++
	addr := ev.Remote.Addr()
	p := h.peers[addr]
	known := len(h.book.Lookup(now, addr, h.around.Network)) > 0
	switch {
	case p == nil && known:
		p = h.peerAt(now, addr)
	case p == nil, len(p.sessions) > 0, !known && !h.required(now, p):
		return
	}
	if !p.local.IsValid() {
		p.local = ev.Local.Addr()
	}
	h.attempt(now, p, nil)
}

func (h *Host) dropped(now time.Time, ev dataplane.Dropped) {
	if int(ev.Reason) < len(h.drops) {
		h.drops[ev.Reason] += ev.Count
	}
	h.report(now, Report{
		Kind: PacketsDropped, Level: Debug, Remote: ev.Remote, Reason: packetReason(ev.Reason),
		Text: plural(ev.Count, "packet") + " dropped: " + ev.Reason.String(),
	})
}

// addressChanged ends SAs that are bound to an address that this host no longer has; the next packets make new ones.
func (h *Host) addressChanged(now time.Time) {
	for _, p := range h.sortedPeers() {
		if len(p.sessions) == 0 && p.attempt == 0 {
			if p.cfg == nil || !p.cfg.Local.IsValid() {
				p.local = netip.Addr{}
			}
			continue
		}
		h.askSource(p)
	}
}
