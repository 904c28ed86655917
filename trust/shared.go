package trust

import (
	"net/netip"
	"slices"
	"time"

	"github.com/btns-ipsec/btns/identity"
)

// manyKeys is how many keys a host may have at one address, and how many addresses one key, before the address or the
// key counts as shared (BTNS-TRUST-15).
const manyKeys = 4

// crowded reports whether an address has so many keys that no further one is held against it: each of them was let in
// by an operator. Where one of them is verified, the operator has said which keys are meant, and only those come in.
func (b *Book) crowded(now time.Time, p Place) bool {
	if len(b.places[p]) <= manyKeys || p.Name != "" {
		return false
	}
	rs := b.valid(now, p)
	return len(rs) > manyKeys && !slices.ContainsFunc(rs, (*Record).verified)
}

// crowdedNow tells when a new record makes its address or its key a shared one.
func (b *Book) crowdedNow(r *Record) {
	p := r.place()
	if p.IsZero() {
		return
	}
	if n := len(b.places[p]); n == manyKeys+1 {
		b.tell(Shared{Place: p, Count: n})
	}
	n := 0
	for _, o := range b.keys[r.Key] {
		if o.Addr.IsValid() {
			n++
		}
	}
	if n == manyKeys+1 && p.Addr.IsValid() {
		b.tell(Shared{Key: r.Key, Count: n})
	}
}

const maxCrowds = 1024

// crowds counts the keys that came from behind one NAT, within bounds. It only tells: what a stranger behind an address
// does must not switch off the pin of an address that we went to.
type crowds struct {
	at    map[netip.Addr][]identity.Fingerprint
	order []netip.Addr // oldest first
}

// crowd notes who came from behind a NAT.
func (b *Book) crowd(q *Query, key identity.Fingerprint) {
	if !q.natted() || !q.Addr.IsValid() {
		return
	}
	c := &b.crowds
	if c.at == nil {
		c.at = map[netip.Addr][]identity.Fingerprint{}
	}
	addr := At(q.Addr, "").Addr
	seen, ok := c.at[addr]
	if slices.Contains(seen, key) || len(seen) > manyKeys {
		return
	}
	if !ok {
		if len(c.order) >= maxCrowds {
			delete(c.at, c.order[0])
			c.order = slices.Delete(c.order, 0, 1)
		}
		c.order = append(c.order, addr)
	}
	seen = append(seen, key)
	c.at[addr] = seen
	if len(seen) == manyKeys+1 {
		b.tell(Shared{Place: At(q.Addr, q.Network), Count: len(seen)})
	}
}
