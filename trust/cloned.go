package trust

import (
	"maps"
	"slices"
	"time"

	"github.com/btns-ipsec/btns/identity"
)

// Instance is a random number that a machine chooses when it starts and tells inside its IKE SAs, so that a copy of the
// machine, which has the same key, is told from the same machine with a second address.
type Instance [16]byte

const (
	maxSightings = 8
	seenLately   = 5 * time.Minute
	alarmAgain   = time.Hour
)

// sighting is a key alive somewhere, in memory only.
type sighting struct {
	place       Place
	instance    Instance
	first, last time.Time
}

type presence struct {
	seen []sighting
	told time.Time
}

// meet notes that a key is alive somewhere, and tells when it is alive in two places: one that was there before the
// other appeared is seen again after it. A machine that restarts or moves never comes back as what it was.
func (b *Book) meet(now time.Time, q *Query, key identity.Fingerprint) {
	if len(b.keys[key]) == 0 || !q.Addr.IsValid() {
		return
	}
	p := b.alive[key]
	if p == nil {
		p = &presence{}
		b.alive[key] = p
	}
	p.forget(now)
	here := sighting{At(q.Addr, q.Network), q.Instance, now, now}
	i := slices.IndexFunc(p.seen, func(s sighting) bool { return s.place == here.place && s.instance == here.instance })
	if i < 0 {
		if len(p.seen) >= maxSightings {
			p.seen = slices.Delete(p.seen, 0, 1)
		}
		p.seen = append(p.seen, here)
		return
	}
	if now.After(p.seen[i].last) { // who tells of a session late tells of what was
		p.seen[i].last = now
	}
	for _, o := range p.seen {
		if certain, cloned := b.clones(&p.seen[i], &o, key); cloned && now.Sub(p.told) >= alarmAgain {
			p.told = now
			b.tell(Cloned{key, [2]Place{here.place, o.place}, certain})
			return
		}
	}
}

// forget drops what was not seen lately, and reports whether there is nothing left to know.
func (p *presence) forget(now time.Time) (nothing bool) {
	p.seen = slices.DeleteFunc(p.seen, func(s sighting) bool { return now.Sub(s.last) > seenLately })
	return len(p.seen) == 0 && now.Sub(p.told) >= alarmAgain
}

// Quiet forgets where keys were alive that are not any more. It changes nothing but what the book takes of memory; call it
// now and then.
func (b *Book) Quiet(now time.Time) {
	before := len(b.alive)
	for key, p := range b.alive {
		if p.forget(now) {
			delete(b.alive, key)
		}
	}
	if len(b.alive) < before/2 { // a map does not shrink
		alive := make(map[identity.Fingerprint]*presence, len(b.alive))
		maps.Copy(alive, b.alive)
		b.alive = alive
	}
}

// clones reports whether two sightings of a key are two machines. Instances say so for certain. Without them, two
// addresses of one family do, unless an operator let the key in at both; a host has both families as a rule.
func (b *Book) clones(old, young *sighting, key identity.Fingerprint) (certain, cloned bool) {
	if !young.first.After(old.first) || !old.last.After(young.first) {
		return false, false
	}
	if old.instance != (Instance{}) && young.instance != (Instance{}) {
		differ := old.instance != young.instance
		return differ, differ
	}
	if old.place.Addr == young.place.Addr || old.place.Addr.Is4() != young.place.Addr.Is4() {
		return false, false
	}
	return false, !b.expected(old.place, key) || !b.expected(young.place, key)
}

func (b *Book) expected(p Place, key identity.Fingerprint) bool {
	r := b.find(p, key)
	return r != nil && r.byOperator()
}
