package trust

import (
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/btns-ipsec/btns/identity"
)

// Refused is a key that was turned away. It never counts as seen (BTNS-TRUST-32).
type Refused struct {
	Key   identity.PublicKey
	First time.Time
	Last  time.Time
	Count uint64
	// Waiting: the mode is Ask, and an operator's Accept would let the key in.
	Waiting bool
	told    time.Time
}

// Waiting is a key that waits for an operator's word.
type Waiting struct {
	Place Place
	Refused
}

// Refused returns the keys turned away at an address, the last one first.
func (b *Book) Refused(addr netip.Addr, network string) []Refused {
	return slices.Clone(b.refusals.at[At(addr, network)])
}

// Waiting returns the keys that wait for Accept, by place: traffic with them is held until then (BTNS-TRUST-10).
func (b *Book) Waiting() []Waiting {
	var out []Waiting
	for p, rs := range b.refusals.at {
		for _, r := range rs {
			if r.Waiting {
				out = append(out, Waiting{p, r})
			}
		}
	}
	slices.SortFunc(out, func(x, y Waiting) int { return x.Place.compare(y.Place) })
	return out
}

const (
	maxRefusedPlaces = 1024
	maxRefusedKeys   = 4 // at one place
	tellAgain        = time.Minute
)

// refusals remembers refused keys for the operator, within bounds (BTNS-TRUST-33).
type refusals struct {
	at    map[Place][]Refused // the last one first
	order []Place             // oldest first
}

// add counts a refusal; quiet says that the same was told a moment ago.
func (f *refusals) add(now time.Time, p Place, key identity.PublicKey, why error) (quiet bool) {
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
	var unknown *UnknownKeyError
	r.Waiting = errors.As(why, &unknown) && unknown.Mode == Ask
	if quiet = r.Count > 1 && now.Sub(r.told) < tellAgain; !quiet {
		r.told = now
	}
	rs = slices.Insert(rs, 0, r)
	f.at[p] = rs[:min(len(rs), maxRefusedKeys)]
	return quiet
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

// forget drops what was refused at the places that match.
func (f *refusals) forget(match func(Place) bool) {
	for _, p := range slices.Clone(f.order) {
		if match(p) {
			f.drop(p)
		}
	}
}

func (f *refusals) drop(p Place) {
	delete(f.at, p)
	f.order = slices.DeleteFunc(f.order, func(o Place) bool { return o == p })
}
