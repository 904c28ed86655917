package trust

import (
	"errors"
	"slices"
	"time"

	"github.com/btns-ipsec/btns/identity"
)

// Carried notes that the first packets of a session went both ways, once for each IKE SA (BTNS-TRUST-16). An error is a
// refusal, as of Judge, when another key was recorded in the meantime (BTNS-TRUST-34), or [ErrFull], which is no reason
// to end the session.
func (b *Book) Carried(now time.Time, q Query) ([]Change, error) {
	key := q.Key.Fingerprint()
	if key.IsZero() {
		return nil, nil // without a key there is nothing that could come again (BTNS-NULL-13)
	}
	v := b.judge(now, &q)
	if refusesKey(v.Refuse) {
		b.refusals.add(now, b.refusedAt(&q), q.Key, v.Refuse)
		return nil, v.Refuse
	}
	var out []Change
	var err error
	for _, p := range b.placesOf(now, &q) {
		if v.Warn != nil && p.Name == "" {
			continue // the key recorded of the address stays: the name is what was meant (BTNS-TRUST-13)
		}
		if out, err = b.record(now, &q, p, out); err != nil {
			return out, err
		}
	}
	b.meet(now, &q, key)
	b.crowd(&q, key)
	return out, nil
}

// refusesKey leaves out that a mode wants no unknown keys: it is about who may come, and this session is here.
func refusesKey(err error) bool {
	var changed *KeyChangedError
	var revoked *RevokedKeyError
	return errors.As(err, &changed) || errors.As(err, &revoked)
}

// record writes a session down at one place.
func (b *Book) record(now time.Time, q *Query, p Place, out []Change) ([]Change, error) {
	key := q.Key.Fingerprint()
	out = b.forgetAged(now, p, key, out)
	s := b.stand(now, q, p)
	sticky := false
	if s.mine == nil && s.forebear == nil && len(s.known) > 0 {
		sticky = slices.ContainsFunc(s.known, func(r *Record) bool { return r.Sticky })
		out = b.supersede(q, s, key, out)
	}
	r, fresh := s.mine, s.mine == nil
	if fresh {
		var err error
		if out, err = b.makeRoom(out); err != nil {
			return out, err
		}
		r = &Record{
			Addr: p.Addr, Network: p.Network, Name: p.Name, Key: key, Public: q.Key, Assurance: identity.FirstUse,
			FirstSeen: now, Inbound: true, Sticky: sticky, // remembered means required, whichever key it is
		}
		r.note(Seen, now)
		if s.forebear != nil {
			out = b.handOver(now, s.forebear, r, out)
		}
		b.add(r)
		b.crowdedNow(r)
	}
	b.backAfterConflict(r)
	b.count(now, q, r, fresh)
	b.refusals.settle(p, key)
	return append(out, Put{*r}), nil
}

// count adds a session to a record.
func (b *Book) count(now time.Time, q *Query, r *Record, fresh bool) {
	if !fresh && r.Sessions > 0 {
		r.note(Again, now)
		r.Assurance = max(r.Assurance, identity.Continuity)
	}
	r.Public, r.LastSeen, r.Suspended = q.Key, now, false
	r.Sessions++
	if !q.Inbound {
		r.Inbound = false
	}
	r.Sticky = !r.place().IsZero() && (r.Sticky || !r.Inbound)
}

// supersede removes the keys whose place another one takes.
func (b *Book) supersede(q *Query, s standing, key identity.Fingerprint, out []Change) []Change {
	why := ModeOff
	switch {
	case q.Named && !q.Roams:
		why = ByRule
	case defender(s.known) == nil:
		why = OldIsGone
	}
	old := slices.Clone(s.known)
	for _, r := range old {
		b.tell(Replaced{s.place, r.Key, key, why})
	}
	return b.removeAll(old, out, Superseded)
}

// forgetAged removes what has aged out at one place; of no place, for one key.
func (b *Book) forgetAged(now time.Time, p Place, key identity.Fingerprint, out []Change) []Change {
	at := b.places[p]
	if p.IsZero() {
		at = b.keys[key]
	}
	var old []*Record
	for _, r := range at {
		if r.place() == p && b.aged(now, r) {
			old = append(old, r)
		}
	}
	return b.removeAll(old, out, Aged)
}

// backAfterConflict tells that the recorded key is back where another one was refused since it was seen.
func (b *Book) backAfterConflict(r *Record) {
	if refused, ok := b.refusals.last(r.place(), identity.Fingerprint{}); ok && r.Sessions > 0 && refused.Last.After(r.LastSeen) {
		b.tell(ConflictOver{r.place(), r.Key})
	}
}

// Alive notes that a session still carries packets, so that its record does not age. It changes the store at most once
// an hour. Call it for each session that carries packets, once a minute or so, with the time of the last of them: it also
// finds out whether one key is alive in two places.
func (b *Book) Alive(now time.Time, q Query) []Change {
	key := q.Key.Fingerprint()
	b.meet(now, &q, key)
	var out []Change
	for _, p := range b.placesOf(now, &q) {
		r := b.find(p, key)
		if r == nil || now.Sub(r.LastSeen) < freshness {
			continue
		}
		r.LastSeen = now
		out = append(out, Put{*r})
	}
	return out
}

// placesOf are the places under which a session is recorded: what the application asked for, and the address.
func (b *Book) placesOf(now time.Time, q *Query) []Place {
	if q.Name == "" {
		return []Place{b.placeOf(now, q)}
	}
	if !q.Addr.IsValid() {
		return []Place{{Name: q.Name}}
	}
	return []Place{{Name: q.Name}, b.placeOf(now, q)}
}
