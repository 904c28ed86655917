package trust

import (
	"fmt"
	"slices"
	"time"

	"github.com/btns-ipsec/btns/identity"
)

// Skipped is an entry that Import left out.
type Skipped struct {
	Entry Entry
	Why   string
}

// Import takes in a text of known peers on an operator's word: all of it, or nothing with an error. A line that is the
// operator's word, or says verified, takes the place of keys that the text does not list there (trust.md §5, row "user
// comparison"); any other line displaces nothing and is skipped where another key is recorded. A hashed selector is taken
// in when it is that of a place that the book knows.
func (b *Book) Import(now time.Time, entries []Entry) ([]Change, []Skipped, error) {
	entries, skipped := b.resolve(now, entries)
	if err := b.room(entries); err != nil {
		return nil, nil, err
	}
	listed := map[Place][]identity.Fingerprint{}
	for _, e := range entries {
		p := e.Record.place()
		listed[p] = append(listed[p], e.Record.Key)
	}
	var out []Change
	for _, e := range entries {
		more, why, err := b.importOne(now, e, listed[e.Record.place()])
		out = append(out, more...)
		if err != nil {
			return out, skipped, fmt.Errorf("line %d: %w", e.Line, err)
		}
		if why != "" {
			skipped = append(skipped, Skipped{e, why})
		}
	}
	return out, skipped, nil
}

// resolve finds the places of hashed selectors, and fills in what a line leaves open.
func (b *Book) resolve(now time.Time, entries []Entry) (plain []Entry, skipped []Skipped) {
	for _, e := range entries {
		if e.Hashed != "" {
			p, ok := b.unhash(e)
			if !ok {
				skipped = append(skipped, Skipped{e, "its selector is hashed, and is none that is known"})
				continue
			}
			e.Record.Addr, e.Record.Network, e.Record.Name = p.Addr, p.Network, p.Name
		}
		r := &e.Record
		if r.FirstSeen.IsZero() {
			r.FirstSeen = now
		}
		if r.LastSeen.IsZero() {
			r.LastSeen = now
		}
		if e.Bare {
			r.Assurance = identity.Verified
			r.note(Listed, now)
		} else if len(r.Evidence) == 0 {
			r.note(Imported, now)
		}
		if r.Assurance >= identity.Verified && Level(r.Evidence) < identity.Verified {
			r.note(Listed, now)
		}
		plain = append(plain, e)
	}
	return plain, skipped
}

func (b *Book) unhash(e Entry) (Place, bool) {
	for p := range b.places {
		if MatchHashed(e.Hashed, p.String()) && (e.Record.Network == "" || e.Record.Network == p.Network) {
			return p, true
		}
	}
	return Place{}, false
}

// room reports whether the new records of a text fit.
func (b *Book) room(entries []Entry) error {
	fresh := map[string]bool{}
	for _, e := range entries {
		if b.find(e.Record.place(), e.Record.Key) == nil {
			fresh[e.Record.ID()] = true
		}
		if e.Withdrawn && b.find(Place{}, e.Record.Key) == nil {
			fresh[Record{Key: e.Record.Key}.ID()] = true
		}
	}
	weak := 0
	for _, rs := range b.keys {
		for _, r := range rs {
			if r.weak() {
				weak++
			}
		}
	}
	if b.size-weak+len(fresh) > b.cfg.Max {
		return ErrFull
	}
	return nil
}

func (b *Book) importOne(now time.Time, e Entry, listed []identity.Fingerprint) (out []Change, skip string, err error) {
	if e.Withdrawn {
		out, err = b.revoke(now, e.Record.Key, e.Record.Public, Withdrawn)
		return out, "", err
	}
	if e.Bare && b.revoked(e.Record.Key) != nil {
		return nil, "the key is revoked", nil
	}
	r, p := e.Record, e.Record.place()
	var others []*Record
	for _, o := range b.places[p] {
		if !slices.Contains(listed, o.Key) {
			others = append(others, o)
		}
	}
	if len(others) > 0 && !r.Verified() {
		return nil, "another key is recorded there", nil
	}
	for _, o := range others {
		b.tell(Replaced{p, o.Key, r.Key, ByOperator})
	}
	out = b.removeAll(others, nil, Superseded)
	if old := b.find(p, r.Key); old != nil {
		return append(out, b.merge(old, &r)), "", nil
	}
	if out, err = b.makeRoom(out); err != nil {
		return out, "", err
	}
	fresh := r.Verified() && !b.vouched(r.Key)
	b.add(&r)
	b.crowdedNow(&r)
	if fresh {
		b.tell(Raised{Place{}, r.Key, identity.Verified})
	}
	return append(out, Put{r}), "", nil
}

// merge adds what a text says of a recorded key to its record.
func (b *Book) merge(old, r *Record) Change {
	fresh := r.Verified() && !b.vouched(r.Key)
	inbound := old.Inbound && r.Inbound
	old.inherit(r)
	old.Inbound = inbound
	if old.Public.IsZero() {
		old.Public = r.Public
	}
	if r.FirstSeen.Before(old.FirstSeen) {
		old.FirstSeen = r.FirstSeen
	}
	if r.LastSeen.After(old.LastSeen) {
		old.LastSeen = r.LastSeen
	}
	if old.Revoked.IsZero() {
		old.Revoked = r.Revoked
	}
	if fresh {
		b.tell(Raised{Place{}, r.Key, identity.Verified})
	}
	return Put{*old}
}
