package host

import (
	"net/netip"
	"time"

	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/trust"
)

// What users ask for by name. The name that an address was found by stays with its peer; trust is asked by it first, and about
// the address besides (BTNS-TRUST-13). Whoever resolved it may have been lied to: so it decides nothing but which record counts.

// call notes that a user asked for p by a name, and holds the sessions that are there against what is recorded for that.
func (h *Host) call(now time.Time, p *peer, name string) {
	name, err := trust.ParseName(name)
	if err != nil || p.cfg != nil || p.name == name { // of a configured peer the rule says who it is
		return
	}
	for _, o := range h.peers { // the name has moved
		if o.name == name {
			o.name = ""
		}
	}
	p.name = name
	for _, s := range append([]*session(nil), p.sessions...) {
		if s.who.Key.IsZero() || !s.up {
			continue
		}
		if h.assess(now, s, Changed); !s.recorded || s.dismissed() {
			continue
		}
		q := h.query(s, s.who, s.named)
		if q.Name == "" { // it is not the one that is meant, or nobody knows
			continue
		}
		q.Addr, q.Instance = netip.Addr{}, trust.Instance{} // of the address it is recorded already
		changes, err := h.book.Carried(now, q)
		h.persist(changes)
		if err != nil {
			h.report(now, Report{Kind: PeerRefused, Level: Warn, Remote: p.addr, Key: s.who.Key.Fingerprint(), Reason: refusalOf(err), Text: err.Error()})
		}
	}
}

// callNothing forgets by which name an address was asked for.
func (h *Host) callNothing(addr netip.Addr) {
	if p := h.peers[addr]; p != nil {
		p.name = ""
	}
}

// nameOf is the name that the peer of a session was asked for by, or empty.
func (h *Host) nameOf(s *session) string {
	if s.peer != nil {
		return s.peer.name
	}
	if p := h.peers[s.remote.Addr()]; p != nil && p.cfg == nil {
		return p.name
	}
	return ""
}

// nameFor is the name that a command about an address is about besides: the one that was said, or the one that the address was
// asked for by; empty when it is none.
func (h *Host) nameFor(addr netip.Addr, said string) string {
	if name, err := trust.ParseName(said); err == nil {
		return name
	}
	if p := h.peers[addr]; p != nil {
		return p.name
	}
	return ""
}

// keyIn is the key that changes have recorded.
func keyIn(changes []trust.Change) (key identity.Fingerprint) {
	for _, c := range changes {
		if put, ok := c.(trust.Put); ok {
			key = put.Record.Key
		}
	}
	return key
}
