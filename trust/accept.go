package trust

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/btns-ipsec/btns/identity"
)

// Accept records a key for an address on an operator's word, in place of those recorded there (trust.md §4, transition
// 11). A zero key takes the one that was refused last. The new record counts as never seen: the word is that it may come,
// not that it was compared.
func (b *Book) Accept(now time.Time, addr netip.Addr, network string, key identity.Fingerprint) ([]Change, error) {
	p := At(addr, network)
	if !p.Addr.IsValid() {
		return nil, ErrNoRecord
	}
	refused, ok := b.refusals.last(p, key)
	if !ok && key.IsZero() {
		return nil, ErrNothingRefused
	}
	if ok {
		key = refused.Key.Fingerprint()
	}
	r := b.find(p, key)
	if r == nil {
		r = &Record{Addr: p.Addr, Network: p.Network, Key: key, Public: refused.Key, Assurance: identity.FirstUse, FirstSeen: now}
	}
	var old []*Record
	for _, o := range b.places[p] {
		r.Sticky = r.Sticky || o.Sticky
		if o != r {
			old = append(old, o)
		}
	}
	out := b.removeAll(old, nil)
	if b.find(p, key) == nil {
		evicted, err := b.makeRoom()
		out = append(out, evicted...)
		if err != nil {
			return out, err
		}
		b.add(r)
	}
	r.LastSeen, r.Inbound, r.Suspended = now, false, false
	r.note(Accepted, now)
	b.refusals.settle(p, key)
	return append(out, Put{*r}), nil
}

// Verify raises the recorded key of an address to verified: somebody compared its name (BTNS-TRUST-06).
func (b *Book) Verify(now time.Time, addr netip.Addr, network string, key identity.Fingerprint) ([]Change, error) {
	r := b.find(At(addr, network), key)
	if r == nil {
		return nil, ErrNoRecord
	}
	r.Assurance = identity.Verified
	r.note(Compared, now)
	return []Change{Put{*r}}, nil
}

// makeRoom removes records until one more fits: of keys that came once and that nothing rests on, the oldest
// (BTNS-TRUST-17). It takes several at a time, since each round looks at all of them.
func (b *Book) makeRoom() ([]Change, error) {
	if b.size < b.cfg.Max {
		return nil, nil
	}
	var weak []*Record
	for _, rs := range b.places {
		for _, r := range rs {
			if !r.Sticky && r.Assurance <= identity.FirstUse {
				weak = append(weak, r)
			}
		}
	}
	if len(weak) == 0 {
		return nil, ErrFull
	}
	slices.SortFunc(weak, func(x, y *Record) int {
		return cmp.Or(x.LastSeen.Compare(y.LastSeen), compare(x, y))
	})
	return b.removeAll(weak[:min(len(weak), b.size-b.cfg.Max+1+b.cfg.Max/16)], nil), nil
}

// Refused is a key that was turned away. It never counts as seen (BTNS-TRUST-32).
type Refused struct {
	Key   identity.PublicKey
	First time.Time
	Last  time.Time
	Count uint64
}

// Refused returns the keys turned away at an address, the last one first.
func (b *Book) Refused(addr netip.Addr, network string) []Refused {
	return slices.Clone(b.refusals.at[At(addr, network)])
}

const (
	maxRefusedPlaces = 1024
	maxRefusedKeys   = 4 // at one place
)

// refusals remembers refused keys for the operator, within bounds (BTNS-TRUST-33).
type refusals struct {
	at    map[Place][]Refused // the last one first
	order []Place             // oldest first
}

func (f *refusals) add(now time.Time, p Place, key identity.PublicKey) {
	if f.at == nil {
		f.at = map[Place][]Refused{}
	}
	rs, ok := f.at[p]
	if !ok {
		if len(f.order) >= maxRefusedPlaces {
			delete(f.at, f.order[0])
			f.order = slices.Delete(f.order, 0, 1)
		}
		f.order = append(f.order, p)
	}
	r := Refused{Key: key, First: now}
	if i := slices.IndexFunc(rs, func(o Refused) bool { return o.Key == key }); i >= 0 {
		r = rs[i]
		rs = slices.Delete(rs, i, i+1)
	}
	r.Last = now
	r.Count++
	rs = slices.Insert(rs, 0, r)
	f.at[p] = rs[:min(len(rs), maxRefusedKeys)]
}

// last returns the entry of key, or for a zero key the one refused last.
func (f *refusals) last(p Place, key identity.Fingerprint) (Refused, bool) {
	for _, r := range f.at[p] {
		if key.IsZero() || r.Key.Fingerprint() == key {
			return r, true
		}
	}
	return Refused{}, false
}

// settle forgets that key was refused at p: it is recorded there.
func (f *refusals) settle(p Place, key identity.Fingerprint) {
	rs, ok := f.at[p]
	if !ok {
		return
	}
	rs = slices.DeleteFunc(rs, func(r Refused) bool { return r.Key.Fingerprint() == key })
	f.at[p] = rs
	if len(rs) == 0 {
		f.drop(p)
	}
}

func (f *refusals) forget(addr netip.Addr) {
	for _, p := range slices.Clone(f.order) {
		if p.Addr == addr {
			f.drop(p)
		}
	}
}

func (f *refusals) drop(p Place) {
	delete(f.at, p)
	f.order = slices.DeleteFunc(f.order, func(o Place) bool { return o == p })
}
