package trust

import (
	"net/netip"
	"slices"
	"time"

	"github.com/btns-ipsec/btns/identity"
)

// Verify raises the key of an address to verified: somebody compared its name (BTNS-TRUST-06). A key that is not recorded
// there takes the place of those that are (trust.md §5, row "user comparison"); a zero key means the one that is.
func (b *Book) Verify(now time.Time, addr netip.Addr, network string, key identity.Fingerprint) ([]Change, error) {
	return b.verify(now, At(addr, network), key, Compared)
}

// VerifyName is Verify for a name.
func (b *Book) VerifyName(now time.Time, name string, key identity.Fingerprint) ([]Change, error) {
	name, err := ParseName(name)
	if err != nil {
		return nil, err
	}
	return b.verify(now, Place{Name: name}, key, Compared)
}

// VerifyKey raises a key to verified wherever it is. A key that was never seen may be verified, too: it is let in when it
// comes.
func (b *Book) VerifyKey(now time.Time, key identity.Fingerprint, public identity.PublicKey) ([]Change, error) {
	switch {
	case key.IsZero():
		return nil, ErrNoRecord
	case b.revoked(key) != nil:
		return nil, ErrRevoked
	}
	r, out, err := b.ofKey(now, key)
	if err != nil {
		return out, err
	}
	if public.Fingerprint() == key {
		r.Public = public
	}
	b.vouch(now, r, Compared)
	return append(out, Put{*r}), nil
}

// Confirm notes that two people compared the short string of a live session, which is a comparison of its key
// (trust.md §7, BTNS-TRUST-06).
//
// A peer whose address says nothing about it is verified wherever it comes from.
func (b *Book) Confirm(now time.Time, q Query) ([]Change, error) {
	key := q.Key.Fingerprint()
	switch {
	case key.IsZero():
		return nil, ErrNoRecord
	case b.revoked(key) != nil:
		return nil, ErrRevoked
	}
	p := b.placeOf(now, &q)
	if r := b.find(p, key); !p.IsZero() && r == nil {
		r = &Record{
			Addr: p.Addr, Network: p.Network, Key: key, Public: q.Key, Assurance: identity.FirstUse,
			FirstSeen: now, LastSeen: now, Inbound: q.Inbound,
		}
		out, err := b.admit(r, true)
		if err != nil {
			return out, err
		}
		b.vouch(now, r, ShortString)
		return append(out, Put{*r}), nil
	}
	if !p.IsZero() {
		return b.verify(now, p, key, ShortString)
	}
	r, out, err := b.ofKey(now, key)
	if err != nil {
		return out, err
	}
	r.Public = q.Key
	b.vouch(now, r, ShortString)
	return append(out, Put{*r}), nil
}

func (b *Book) verify(now time.Time, p Place, key identity.Fingerprint, kind EvidenceKind) ([]Change, error) {
	if p.IsZero() {
		return nil, ErrNoRecord
	}
	if key.IsZero() {
		rs := b.valid(now, p)
		switch len(rs) {
		case 0:
			return nil, ErrNoRecord
		case 1:
			key = rs[0].Key
		default:
			return nil, ErrSeveral
		}
	}
	r := b.find(p, key)
	if r == nil {
		if r = b.offered(now, p, key); r == nil {
			return nil, ErrNoRecord
		}
	}
	if b.revoked(key) != nil {
		return nil, ErrRevoked
	}
	var out []Change
	if !slices.Contains(b.places[p], r) {
		var err error
		if out, err = b.admit(r, true); err != nil {
			return out, err
		}
	}
	b.refusals.settle(p, key)
	b.vouch(now, r, kind)
	return append(out, Put{*r}), nil
}

// offered makes the record of a key that is to be verified where it is not recorded. It is nil for a key that nobody
// offered, at a place that nobody knows: a slip.
func (b *Book) offered(now time.Time, p Place, key identity.Fingerprint) *Record {
	if len(b.places[p]) == 0 && len(b.refusals.at[p]) == 0 && len(b.keys[key]) == 0 {
		return nil
	}
	refused, _ := b.refusals.last(p, key)
	return &Record{
		Addr: p.Addr, Network: p.Network, Name: p.Name, Key: key, Public: refused.Key, Assurance: identity.FirstUse,
		FirstSeen: now, LastSeen: now,
	}
}

// vouch raises a record to verified.
func (b *Book) vouch(now time.Time, r *Record, kind EvidenceKind) {
	fresh := !b.vouched(r.Key)
	r.Assurance = identity.Verified
	r.note(kind, now)
	if fresh {
		b.tell(Raised{Place{}, r.Key, identity.Verified})
	}
}
