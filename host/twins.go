package host

import (
	"bytes"
	"time"

	"github.com/btns-ipsec/btns/ikev2"
)

// Two IKE SAs with one peer arise when first contacts cross, and when one side lost its state. As with rekeying
// (RFC 7296 §2.8.1, ikev2.md §7.3), the one that holds the lowest of the four nonces is redundant, and whoever began it
// deletes it; but only when the other has proven itself after both were there, since it may be the dead one of a peer
// that restarted. Peers that never delete theirs are tolerated.

// twinPatience is how long to wait for a proof before the check is repeated.
const twinPatience = 5 * time.Second

// twins returns the redundant and the surviving one of two IKE SAs with the same key, or ok false. What a peer with a key
// calls itself does not matter (BTNS-CORE-14).
func twins(p *peer) (redundant, survivor *session, ok bool) {
	for i, a := range p.sessions {
		for _, b := range p.sessions[i+1:] {
			if a.who.Key != b.who.Key || a.who.Method != b.who.Method || a.who.Key.IsZero() && a.who.ID != b.who.ID {
				continue
			}
			if bytes.Compare(a.nonce, b.nonce) < 0 {
				return a, b, true
			}
			return b, a, true
		}
	}
	return nil, nil, false
}

// greetTwins begins the settling when s is not the only IKE SA with its peer.
func (h *Host) greetTwins(now time.Time, s *session) {
	redundant, survivor, ok := twins(s.peer)
	if !ok {
		return
	}
	redundant.proven, survivor.proven = time.Time{}, time.Time{}
	h.ike(now, ikev2.CheckAlive{SA: redundant.handle})
	h.ike(now, ikev2.CheckAlive{SA: survivor.handle})
	h.alarms.add(now.Add(twinPatience), checkTwins, s.peer.addr, 0)
}

// settleTwins deletes our redundant IKE SA as soon as that loses nothing.
func (h *Host) settleTwins(now time.Time, p *peer) {
	if p == nil {
		return
	}
	redundant, survivor, ok := twins(p)
	if !ok || survivor.proven.IsZero() || !redundant.initiator {
		return
	}
	for _, pair := range h.sas.Owned(uint64(survivor.handle)) {
		if !pair.Sending {
			h.use(pair)
		}
	}
	h.ike(now, ikev2.DeleteSA{SA: redundant.handle})
}

// recheckTwins repeats the proof for twins that nobody has settled.
func (h *Host) recheckTwins(now time.Time, p *peer) {
	redundant, survivor, ok := twins(p)
	if !ok || !redundant.initiator {
		return // the peer's to delete
	}
	if survivor.proven.IsZero() {
		h.ike(now, ikev2.CheckAlive{SA: survivor.handle})
		h.alarms.add(now.Add(twinPatience), checkTwins, p.addr, 0)
	}
}
