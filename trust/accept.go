package trust

import (
	"net/netip"
	"time"

	"github.com/btns-ipsec/btns/identity"
)

// Accept records a key for an address on an operator's word, in place of those recorded there (trust.md §4, transition
// 11). A zero key takes the one that was refused last. The new record counts as never seen: the word is that it may come,
// not that it was compared.
func (b *Book) Accept(now time.Time, addr netip.Addr, network string, key identity.Fingerprint) ([]Change, error) {
	return b.accept(now, At(addr, network), key, true)
}

// AcceptBeside is Accept that leaves the other keys of the address: a load balancer with several machines behind it. More
// than four make the address a shared one, whose unknown keys are not refused any more (BTNS-TRUST-15), unless one of
// them is verified.
func (b *Book) AcceptBeside(now time.Time, addr netip.Addr, network string, key identity.Fingerprint) ([]Change, error) {
	return b.accept(now, At(addr, network), key, false)
}

// AcceptName is Accept for a name, beside the other keys of it or in their place.
func (b *Book) AcceptName(now time.Time, name string, key identity.Fingerprint, beside bool) ([]Change, error) {
	name, err := ParseName(name)
	if err != nil {
		return nil, err
	}
	return b.accept(now, Place{Name: name}, key, !beside)
}

func (b *Book) accept(now time.Time, p Place, key identity.Fingerprint, replace bool) ([]Change, error) {
	r, err := b.letIn(now, p, key)
	if err != nil {
		return nil, err
	}
	out, err := b.admit(r, replace)
	if err != nil {
		return out, err
	}
	b.refusals.settle(p, r.Key)
	return append(out, Put{*r}), nil
}

// letIn makes or finds the record of a key that an operator lets in. It is not in the book yet.
func (b *Book) letIn(now time.Time, p Place, key identity.Fingerprint) (*Record, error) {
	if p.IsZero() {
		return nil, ErrNoRecord
	}
	refused, ok := b.refusals.last(p, key)
	if !ok && key.IsZero() {
		return nil, ErrNothingRefused
	}
	if ok {
		key = refused.Key.Fingerprint()
	}
	if b.revoked(key) != nil {
		return nil, ErrRevoked
	}
	at := p
	if b.recycled(p.Addr) {
		at = Place{} // nothing rests on the address
	}
	r := b.find(at, key)
	if r == nil {
		r = &Record{
			Addr: at.Addr, Network: at.Network, Name: at.Name, Key: key, Public: refused.Key,
			Assurance: identity.FirstUse, FirstSeen: now,
		}
	}
	r.LastSeen, r.Inbound, r.Suspended = now, false, false
	r.note(Accepted, now)
	return r, nil
}

// admit puts an operator's record into the book, in place of the others or beside them.
func (b *Book) admit(r *Record, replace bool) (out []Change, err error) {
	p := r.place()
	var old []*Record
	for _, o := range b.places[p] {
		r.Sticky = r.Sticky || o.Sticky
		if o != r && replace {
			old = append(old, o)
		}
	}
	for _, o := range old {
		b.tell(Replaced{p, o.Key, r.Key, ByOperator})
	}
	out = b.removeAll(old, nil, Superseded)
	if b.find(p, r.Key) != nil {
		return out, nil
	}
	if out, err = b.makeRoom(out); err != nil {
		return out, err
	}
	b.add(r)
	b.crowdedNow(r)
	return out, nil
}

// ofKey finds or makes the record of the key itself.
func (b *Book) ofKey(now time.Time, key identity.Fingerprint) (*Record, []Change, error) {
	if r := b.find(Place{}, key); r != nil {
		return r, nil, nil
	}
	seen := len(b.keys[key]) > 0
	out, err := b.makeRoom(nil)
	if err != nil {
		return nil, out, err
	}
	r := &Record{Key: key, FirstSeen: now, LastSeen: now, Inbound: true, Assurance: identity.FirstUse}
	for _, o := range b.keys[key] {
		if !o.Public.IsZero() {
			r.Public = o.Public
		}
		if o.FirstSeen.Before(r.FirstSeen) {
			r.FirstSeen = o.FirstSeen
		}
	}
	if seen {
		r.note(Seen, r.FirstSeen)
	}
	b.add(r)
	return r, out, nil
}
