package trust

import (
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/btns-ipsec/btns/identity"
)

// Query is a session about which the book is asked. Nothing in it is the word of the peer alone (BTNS-TRUST-07).
type Query struct {
	Addr    netip.Addr
	Network string // of this host at present: prefix and gateway; counts for scoped addresses only
	// Name is what the application asked for, as ParseName returns it; empty when it gave an address (BTNS-TRUST-13).
	Name string
	Key  identity.PublicKey // as proven by AUTH; zero for NULL authentication
	// Inbound: the peer came to us.
	Inbound bool
	// NAT: the peer is behind a NAT, so that its address is not its own (BTNS-TRUST-15).
	NAT bool
	// Named: a PAD entry names this key or authenticated the peer's identity: the rule wins over any record.
	Named bool
	// Roams: that entry is not about addresses. It vouches for the peer, and gives it no place that others hold.
	Roams bool
	// OldGone: the recorded key is not alive; see KeyChangedError.Inbound.
	OldGone bool
	// Level is what Judge said when the session began; Succeed wants to know it (BTNS-TRUST-41).
	Level identity.Assurance
	// Instance tells apart machines that have the same key; zero when the peer does not say.
	Instance Instance
}

// Verdict is the answer of Judge.
type Verdict struct {
	Assurance identity.Assurance
	Evidence  []Evidence // what the assurance rests on (BTNS-TRUST-01)
	Refuse    error      // [*KeyChangedError], [*UnknownKeyError], [*DowngradeError], [*RevokedKeyError]; nil: the peer may be here
	// Warn says that the key is right for the name, and not the one recorded for the address (BTNS-TRUST-13).
	Warn *KeyChangedError
	// Quiet: the same refusal was told within the last minute (BTNS-TRUST-33).
	Quiet bool
}

// Judge says whether an authenticated peer may be here and how well it is known. It records nothing, except which keys
// were refused, for Accept.
func (b *Book) Judge(now time.Time, q Query) Verdict {
	v := b.judge(now, &q)
	if v.Refuse != nil && !q.Key.IsZero() {
		v.Quiet = b.refusals.add(now, b.refusedAt(&q), q.Key, v.Refuse)
	}
	return v
}

// Assess says what Judge would say and notes nothing: for sessions that exist, after what is known has changed.
func (b *Book) Assess(now time.Time, q Query) Verdict { return b.judge(now, &q) }

// refusedAt is the place under which a refusal is kept, and later accepted.
func (b *Book) refusedAt(q *Query) Place {
	if q.Name != "" && !q.Addr.IsValid() {
		return Place{Name: q.Name}
	}
	return At(q.Addr, q.Network)
}

func (b *Book) judge(now time.Time, q *Query) Verdict {
	key := q.Key.Fingerprint()
	if r := b.revoked(key); r != nil {
		return Verdict{Refuse: &RevokedKeyError{q.Addr, key, r.Revoked}}
	}
	rule := []Evidence{{Rule, now}}
	switch {
	case !q.Named:
		return b.judgePlaces(now, q, key)
	case !q.Roams:
		return verdict(rule)
	}
	v := b.judgePlaces(now, q, key)
	var unknown *UnknownKeyError
	if v.Refuse == nil || errors.As(v.Refuse, &unknown) { // the rule knows it
		v = Verdict{Assurance: Level(rule), Evidence: rule, Warn: v.Warn}
	}
	return v
}

// judgePlaces holds a key against what is recorded of where it is.
func (b *Book) judgePlaces(now time.Time, q *Query, key identity.Fingerprint) Verdict {
	if q.Name != "" {
		if v, decided := b.judgeName(now, q); decided {
			return v
		}
	}
	return b.judgeAddr(now, q, key)
}

// judgeName answers when something is recorded of the name. The address is looked at besides, and only warns
// (BTNS-TRUST-13).
func (b *Book) judgeName(now time.Time, q *Query) (v Verdict, decided bool) {
	s := b.stand(now, q, Place{Name: q.Name})
	if len(s.known) == 0 {
		return Verdict{}, false
	}
	if q.Key.IsZero() {
		return b.withoutKey(q, s), true
	}
	if e, ok := b.evidence(now, s); ok {
		v = verdict(e)
		errors.As(b.judgeAddr(now, q, q.Key.Fingerprint()).Refuse, &v.Warn)
		return v, true
	}
	if err := b.changed(q, s); err != nil {
		return Verdict{Refuse: err}, true
	}
	return Verdict{}, false // it would take the place of what is recorded; the address has its say, too
}

func (b *Book) judgeAddr(now time.Time, q *Query, key identity.Fingerprint) Verdict {
	s := b.stand(now, q, b.placeOf(now, q))
	if key.IsZero() {
		return b.withoutKey(q, s)
	}
	if e, ok := b.evidence(now, s); ok {
		return verdict(e)
	}
	if err := b.changed(q, s); err != nil {
		return Verdict{Refuse: err}
	}
	if len(s.known) > 0 { // it takes the place of a key that may not defend it
		return b.stranger(now, q)
	}
	strict := b.cfg.Mode == Strict || b.cfg.Mode == Ask
	if strict && !b.familiar(now, key) {
		return Verdict{Refuse: &UnknownKeyError{q.Addr, key, b.cfg.Mode}}
	}
	return b.stranger(now, q)
}

func verdict(e []Evidence) Verdict { return Verdict{Assurance: Level(e), Evidence: e} }

// stranger is the verdict on a key that was never seen where it is.
func (b *Book) stranger(now time.Time, q *Query) Verdict {
	return verdict(b.vouchers(now, q.Key.Fingerprint(), []Evidence{{Seen, now}}, 0))
}

func (b *Book) withoutKey(q *Query, s standing) Verdict {
	if r := defender(s.known); r != nil {
		return Verdict{Refuse: &DowngradeError{q.Addr, r.Key, r.FirstSeen}}
	}
	return Verdict{Assurance: identity.Encrypted}
}

// standing is what a place has to say about a key.
type standing struct {
	place    Place
	mine     *Record   // of this key, here
	forebear *Record   // of a key, here, that named this one as its successor
	known    []*Record // all that count here
}

func (b *Book) stand(now time.Time, q *Query, p Place) standing {
	s := standing{place: p, known: b.known(now, q, p)}
	key := q.Key.Fingerprint()
	if key.IsZero() {
		return s
	}
	if r := b.find(p, key); r != nil && !b.aged(now, r) && !b.ended(now, key) {
		s.mine = r
		return s
	}
	for _, r := range s.known {
		if b.names(now, r.Key, key) {
			s.forebear = r
		}
	}
	if p.IsZero() {
		for _, old := range b.named[key] {
			if r := b.find(p, old); r != nil && b.names(now, old, key) {
				s.forebear = r
			}
		}
	}
	return s
}

// evidence is what a session of this key rests on here, if anything.
func (b *Book) evidence(now time.Time, s standing) ([]Evidence, bool) {
	r := s.mine
	if r == nil {
		r = s.forebear
	}
	if r == nil {
		return nil, false
	}
	e := slices.Clone(r.Evidence)
	if len(e) == 0 {
		e = append(e, Evidence{Seen, r.FirstSeen})
	}
	if r.Sessions > 0 && !r.has(Again) {
		e = append(e, Evidence{Again, now})
	}
	if s.mine == nil {
		e = append(e, Evidence{HandedOver, now})
	}
	return b.vouchers(now, r.Key, e, 0), true
}

// level is the assurance of a session under the recorded key (BTNS-TRUST-01). A record without a session, made by
// Accept, is no earlier session.
func (b *Book) level(r *Record) identity.Assurance {
	l := Level(r.Evidence)
	if r.Sessions > 0 {
		l = max(l, identity.Continuity)
	}
	if b.vouched(r.Key) {
		l = identity.Verified
	}
	return max(l, identity.FirstUse)
}

// vouched reports whether an operator vouches for a key, here or elsewhere (BTNS-TRUST-06).
func (b *Book) vouched(key identity.Fingerprint) bool {
	return slices.ContainsFunc(b.keys[key], (*Record).verified)
}

func (r *Record) verified() bool { return r.Verified() }

const maxForebears = 4 // how far back a vouched key is looked for

// vouchers adds to e what an operator said about the key elsewhere, or about a key that handed over to it
// (BTNS-TRUST-06: a comparison is about the key).
func (b *Book) vouchers(now time.Time, key identity.Fingerprint, e []Evidence, depth int) []Evidence {
	if Level(e) >= identity.Verified || depth > maxForebears {
		return e
	}
	for _, r := range b.keys[key] {
		if !r.Verified() {
			continue
		}
		for _, o := range r.Evidence {
			if o.Kind.Assurance() >= identity.Verified {
				return append(e, o)
			}
		}
		return append(e, Evidence{Compared, r.LastSeen})
	}
	for _, old := range b.named[key] {
		if b.names(now, old, key) {
			if more := b.vouchers(now, old, e, depth+1); len(more) > len(e) {
				return append(more, Evidence{HandedOver, now})
			}
		}
	}
	return e
}

// familiar reports whether a key is known somewhere: it was in use, an operator let it in or vouches for it, or such a
// key named it.
func (b *Book) familiar(now time.Time, key identity.Fingerprint) bool {
	known := func(key identity.Fingerprint) bool {
		return slices.ContainsFunc(b.keys[key], func(r *Record) bool {
			return !b.aged(now, r) && (r.Sessions > 0 || r.byOperator())
		})
	}
	return known(key) || slices.ContainsFunc(b.named[key], func(old identity.Fingerprint) bool {
		return b.names(now, old, key) && known(old)
	})
}

// natted reports whether the peer's address says nothing about it: it came to us through a NAT. An address that we went
// to is what we meant, whatever stands in front of it.
func (q *Query) natted() bool { return q.NAT && q.Inbound }

// placeOf is the place under which a session's key is looked for and recorded: its address, or none when the address
// says nothing about the peer and nothing defends it.
func (b *Book) placeOf(now time.Time, q *Query) Place {
	p := At(q.Addr, q.Network)
	if !p.Addr.IsValid() {
		return Place{}
	}
	if (q.natted() || b.recycled(p.Addr)) && len(b.known(now, q, p)) == 0 {
		return Place{}
	}
	if b.crowded(now, p) && b.find(p, q.Key.Fingerprint()) == nil {
		return Place{}
	}
	return p
}

// known returns the records that a session has to do with: those of its place. For a peer without an address of its own
// they are only those that pin it, or are the peer's.
func (b *Book) known(now time.Time, q *Query, p Place) []*Record {
	rs := b.valid(now, p)
	if !q.natted() || p.Name != "" {
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

// changed says why a key other than the recorded ones is refused (trust.md §5), or nil.
func (b *Book) changed(q *Query, s standing) error {
	if len(s.known) == 0 || s.forebear != nil {
		return nil
	}
	r := defender(s.known)
	switch {
	case r == nil: // only inbound ones: the old key holds the address while it is alive
		if q.OldGone {
			return nil
		}
		r = newest(s.known)
	case b.cfg.Mode == Off && !b.vouched(r.Key):
		return nil
	}
	return &KeyChangedError{q.Addr, r.Key, q.Key.Fingerprint(), r.FirstSeen, r.Inbound && !r.Verified(), s.place.Name}
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
