package trust

import (
	"net/netip"
	"slices"
	"time"
)

func (b *Book) recycled(a netip.Addr) bool {
	return a.IsValid() && slices.ContainsFunc(b.cfg.Recycled, func(p netip.Prefix) bool { return p.Contains(a) })
}

// SetRecycled declares the ranges whose addresses are given to one host after the other; see [Config.Recycled]. What was
// recorded of such addresses becomes what is known of the keys, and no address of a range is sticky any more, except
// where an operator vouches for the key there.
func (b *Book) SetRecycled(now time.Time, ranges []netip.Prefix) []Change {
	b.cfg.Recycled = slices.Clone(ranges)
	var moving []*Record
	for p, rs := range b.places {
		if !b.recycled(p.Addr) {
			continue
		}
		for _, r := range rs {
			if !r.Verified() {
				moving = append(moving, r)
			}
		}
	}
	slices.SortFunc(moving, compare)
	var out []Change
	for _, r := range moving {
		out = b.loosen(now, r, out)
	}
	return out
}

// loosen turns the record of an address into what is known of its key.
func (b *Book) loosen(now time.Time, r *Record, out []Change) []Change {
	if b.aged(now, r) {
		return b.removeAll([]*Record{r}, out, Aged)
	}
	b.remove(r)
	if r.Sticky && !r.Suspended {
		b.tell(Unstuck{r.place(), r.Key, Recycled})
	}
	out = append(out, Delete{*r})
	k := b.find(Place{}, r.Key)
	if k == nil {
		k = &Record{Key: r.Key, Assurance: r.Assurance, FirstSeen: r.FirstSeen, LastSeen: r.LastSeen, Inbound: true}
		b.add(k)
	}
	k.inherit(r)
	k.Sticky = false
	if k.Public.IsZero() {
		k.Public = r.Public
	}
	if r.LastSeen.After(k.LastSeen) {
		k.LastSeen = r.LastSeen
	}
	return append(out, Put{*k})
}
