package host

import (
	"bytes"
	"slices"
	"time"

	"github.com/btns-ipsec/btns/ikev2"
	"github.com/btns-ipsec/btns/sad"
	"github.com/btns-ipsec/btns/trust"
)

// Two IKE SAs with one peer arise when first contacts cross, and when one side lost its state. As with rekeying
// (RFC 7296 §2.8.1, ikev2.md §7.3), the one that holds the lowest of the four nonces is redundant, and whoever began it
// deletes it; but only when the other has proven itself after both were there, since it may be the dead one of a peer
// that restarted. Peers that never delete theirs are tolerated. A session that was begun in the place of another survives it,
// and so does one under our present key one with the same peer under the key before; of that the peer knows nothing, so we delete.

const (
	// twinPatience is how long to wait for a proof before the check is repeated.
	twinPatience = 5 * time.Second
	// renewPatience is how long a session that was made anew waits for a packet of the peer before the old one goes: until
	// then the peer may send under that.
	renewPatience = 2 * time.Second
)

// twin is two sessions of which one is enough.
type twin struct {
	redundant, survivor *session
	ours                bool // to delete
}

// twins returns all of a peer: with the same key, or of which one was meant to follow the other. What a peer with a key calls
// itself does not matter (BTNS-CORE-14).
func (h *Host) twins(p *peer) (out []twin) {
	for i, a := range p.sessions {
		for _, b := range p.sessions[i+1:] {
			if t, ok := h.twinOf(a, b); ok {
				out = append(out, t)
			}
		}
	}
	return out
}

// twinOf says which of two sessions is redundant; b came later.
func (h *Host) twinOf(a, b *session) (twin, bool) {
	switch {
	case a.ending || b.ending:
		return twin{}, false
	case b.replaces == a.handle || h.underFormer(a) && h.underPresent(b) && h.onePeer(a, b):
		return twin{a, b, true}, true
	case h.underFormer(b) && h.underPresent(a) && h.onePeer(a, b):
		return twin{b, a, true}, true
	case !alike(a, b):
		return twin{}, false
	case bytes.Compare(a.nonce[:], b.nonce[:]) < 0:
		return twin{a, b, a.initiator}, true
	}
	return twin{b, a, b.initiator}, true
}

// alike reports whether two sessions have proven the same.
func alike(a, b *session) bool {
	return a.who.Key == b.who.Key && a.who.Method == b.who.Method && (!a.who.Key.IsZero() || a.who.ID == b.who.ID)
}

// onePeer is alike, or that the key of one session has named that of the other: peers may change theirs when we do.
func (h *Host) onePeer(a, b *session) bool {
	return alike(a, b) || a.who.Method == b.who.Method && (h.succeeds(a, b) || h.succeeds(b, a))
}

func (h *Host) succeeds(a, b *session) bool {
	if a.who.Key.IsZero() || b.who.Key.IsZero() {
		return false
	}
	return slices.ContainsFunc(h.book.Key(a.who.Key.Fingerprint()), func(r trust.Record) bool {
		return slices.ContainsFunc(r.Next, func(n trust.Successor) bool { return n.Key == b.who.Key })
	})
}

func (h *Host) underFormer(s *session) bool {
	f := h.cfg.Rotation.Former
	return s.talk != nil && !f.IsZero() && s.talk.own == f
}

func (h *Host) underPresent(s *session) bool {
	return s.talk != nil && s.talk.own == h.cfg.Signer.Public
}

// greetTwins begins the settling when a peer has more than one IKE SA.
func (h *Host) greetTwins(now time.Time, p *peer) {
	list := h.twins(p)
	for _, t := range list {
		t.redundant.proven, t.survivor.proven = false, false
	}
	for _, s := range slices.Clone(p.sessions) {
		if slices.ContainsFunc(list, func(t twin) bool { return t.redundant == s || t.survivor == s }) {
			h.ike(now, ikev2.CheckAlive{SA: s.handle})
		}
	}
	if len(list) > 0 {
		h.alarms.add(now.Add(twinPatience), checkTwins, p.addr, 0)
	}
}

// settleTwins deletes our redundant IKE SAs as soon as that loses nothing.
func (h *Host) settleTwins(now time.Time, p *peer) {
	if p == nil {
		return
	}
	for _, t := range h.twins(p) {
		if t.redundant.ending || t.survivor.ending || !t.survivor.proven || !t.ours || !h.followed(now, t) {
			continue
		}
		for _, pair := range h.sas.Owned(uint64(t.survivor.handle)) {
			if !pair.Sending {
				h.use(pair)
			}
		}
		t.redundant.ending = true
		h.ike(now, ikev2.DeleteSA{SA: t.redundant.handle})
	}
}

// followed reports whether the peer, as far as can be known, sends under the session that was to follow the other.
func (h *Host) followed(now time.Time, t twin) bool {
	if t.survivor.replaces != t.redundant.handle || now.Sub(h.time(t.survivor.upSince)) >= renewPatience {
		return true
	}
	return slices.ContainsFunc(h.sas.Owned(uint64(t.survivor.handle)), func(p *sad.Pair) bool { return p.Carried })
}

// recheckTwins repeats the proof for twins that nobody has settled.
func (h *Host) recheckTwins(now time.Time, p *peer) {
	h.settleTwins(now, p)
	again := false
	for _, t := range h.twins(p) {
		if !t.ours {
			continue // the peer's to delete
		}
		again = true
		if !t.survivor.proven {
			h.ike(now, ikev2.CheckAlive{SA: t.survivor.handle})
		}
	}
	if again {
		h.alarms.add(now.Add(twinPatience), checkTwins, p.addr, 0)
	}
}

// survived goes on with what is left of a peer's sessions when one of several is gone.
func (h *Host) survived(now time.Time, p *peer) {
	h.greetTwins(now, p)
	if h.cfg.Rotation.Former.IsZero() {
		return
	}
	for _, s := range slices.Clone(p.sessions) {
		if h.underPresent(s) {
			h.speak(now, s)
		}
	}
}
