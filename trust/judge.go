package trust

import (
	"net/netip"
	"time"

	"github.com/btns-ipsec/btns/identity"
)

// Query is a session about which the book is asked.
type Query struct {
	Addr    netip.Addr
	Network string             // of this host at present: prefix and gateway; counts for scoped addresses only
	Key     identity.PublicKey // as proven by AUTH; zero for NULL authentication
	// Inbound: the peer came to us.
	Inbound bool
	// NAT: the peer is behind a NAT, so that its address is not its own (BTNS-TRUST-15).
	NAT bool
	// Named: a PAD entry names this key or authenticated the peer's identity: the rule wins over any record.
	Named bool
	// OldGone: the recorded key is not alive; see KeyChangedError.Inbound.
	OldGone bool
}

// Verdict is the answer of Judge.
type Verdict struct {
	Assurance identity.Assurance
	Refuse    error // [*KeyChangedError], [*UnknownKeyError], [*DowngradeError]; nil: the peer may be here
}

// Judge says whether an authenticated peer may be here and how well it is known. It records nothing, except which keys
// were refused, for Accept.
func (b *Book) Judge(now time.Time, q Query) Verdict {
	v := b.judge(now, q)
	if v.Refuse != nil && !q.Key.IsZero() {
		b.refusals.add(now, At(q.Addr, q.Network), q.Key)
	}
	return v
}

func (b *Book) judge(now time.Time, q Query) Verdict {
	if q.Named {
		return Verdict{Assurance: identity.Verified}
	}
	known := b.known(now, &q)
	key := q.Key.Fingerprint()
	if key.IsZero() {
		if r := defender(known); r != nil {
			return Verdict{Refuse: &DowngradeError{q.Addr, r.Key, r.FirstSeen}}
		}
		return Verdict{Assurance: identity.Encrypted}
	}
	for _, r := range known {
		if r.Key == key {
			return Verdict{Assurance: r.level()}
		}
	}
	if len(known) > 0 {
		if err := b.changed(q, key, known); err != nil {
			return Verdict{Refuse: err}
		}
		return Verdict{Assurance: identity.FirstUse}
	}
	if q.nameless() {
		if r := b.find(Place{}, key); r != nil && !b.aged(now, r) {
			return Verdict{Assurance: r.level()}
		}
	}
	if b.cfg.Mode == Strict || b.cfg.Mode == Ask {
		return Verdict{Refuse: &UnknownKeyError{q.Addr, key, b.cfg.Mode}}
	}
	return Verdict{Assurance: identity.FirstUse}
}

// nameless reports whether the peer's address says nothing about it: it came to us through a NAT. An address that we
// went to is what we meant, whatever stands in front of it.
func (q *Query) nameless() bool { return q.NAT && q.Inbound }

// known returns the records that a session has to do with: those of its address. For a peer without an address of its
// own they are only those that pin it, or are the peer's.
func (b *Book) known(now time.Time, q *Query) []*Record {
	rs := b.valid(now, At(q.Addr, q.Network))
	if !q.nameless() {
		return rs
	}
	key := q.Key.Fingerprint()
	var out []*Record
	for _, r := range rs {
		if !r.Inbound || r.Verified() || r.Key == key {
			out = append(out, r)
		}
	}
	return out
}

// level is the assurance of a session under the recorded key (BTNS-TRUST-01). A record without a session, made by
// Accept, is no earlier session.
func (r *Record) level() identity.Assurance {
	switch {
	case r.Verified():
		return identity.Verified
	case r.Sessions == 0:
		return identity.FirstUse
	}
	return identity.Continuity
}

// changed says why a key other than the recorded ones is refused (trust.md §5, row "nothing"), or nil.
func (b *Book) changed(q Query, key identity.Fingerprint, known []*Record) error {
	r := defender(known)
	switch {
	case r == nil: // only inbound ones: the old key holds the address while it is alive
		if q.OldGone {
			return nil
		}
		r = newest(known)
	case b.cfg.Mode == Off && !r.Verified():
		return nil
	}
	return &KeyChangedError{q.Addr, r.Key, key, r.FirstSeen, r.Inbound && !r.Verified()}
}

// defender is the record that a new key may not displace by itself: verified before others, then the one seen last.
func defender(known []*Record) *Record {
	var d *Record
	for _, r := range known {
		if r.Inbound && !r.Verified() {
			continue
		}
		if d == nil || r.Verified() && !d.Verified() || r.Verified() == d.Verified() && r.LastSeen.After(d.LastSeen) {
			d = r
		}
	}
	return d
}

func newest(known []*Record) *Record {
	n := known[0]
	for _, r := range known[1:] {
		if r.LastSeen.After(n.LastSeen) {
			n = r
		}
	}
	return n
}

// Carried notes that the first packets of a session went both ways, once for each IKE SA (BTNS-TRUST-16). An error is a
// refusal, as of Judge, when another key was recorded in the meantime (BTNS-TRUST-34), or [ErrFull], which is no reason
// to end the session.
func (b *Book) Carried(now time.Time, q Query) ([]Change, error) {
	key := q.Key.Fingerprint()
	if key.IsZero() {
		return nil, nil // without a key there is nothing that could come again (BTNS-NULL-13)
	}
	place := At(q.Addr, q.Network)
	out := b.forgetAged(now, place)
	known := b.known(now, &q)
	if q.nameless() && len(known) == 0 {
		place = Place{}
		if r := b.find(place, key); r != nil && b.aged(now, r) {
			out = b.removeAll([]*Record{r}, out)
		}
	}
	if len(known) > 0 && b.find(place, key) == nil {
		if !q.Named {
			if err := b.changed(q, key, known); err != nil {
				b.refusals.add(now, place, q.Key)
				return nil, err
			}
		}
		out = b.removeAll(append([]*Record(nil), known...), out) // superseded
	}
	r := b.find(place, key)
	if r == nil {
		evicted, err := b.makeRoom()
		out = append(out, evicted...)
		if err != nil {
			return out, err
		}
		r = &Record{
			Addr: place.Addr, Network: place.Network, Key: key, Assurance: identity.FirstUse,
			FirstSeen: now, Inbound: true,
		}
		r.note(Seen, now)
		b.add(r)
	} else if r.Sessions > 0 {
		r.note(Again, now)
		r.Assurance = max(r.Assurance, identity.Continuity)
	}
	r.Public, r.LastSeen, r.Suspended = q.Key, now, false
	r.Sessions++
	if !q.Inbound {
		r.Inbound = false
	}
	r.Sticky = r.Addr.IsValid() && (r.Sticky || !r.Inbound)
	b.refusals.settle(place, key)
	return append(out, Put{*r}), nil
}

// Alive notes that a session still carries packets, so that its record does not age. It changes the store at most once
// an hour.
func (b *Book) Alive(now time.Time, q Query) []Change {
	key := q.Key.Fingerprint()
	r := b.find(At(q.Addr, q.Network), key)
	if r == nil && q.nameless() {
		r = b.find(Place{}, key)
	}
	if r == nil || now.Sub(r.LastSeen) < freshness {
		return nil
	}
	r.LastSeen = now
	return []Change{Put{*r}}
}
