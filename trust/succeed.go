package trust

import (
	"errors"
	"slices"
	"time"

	"github.com/btns-ipsec/btns/identity"
)

const (
	overlap = 90 * 24 * time.Hour  // how long an old key lives beside its heir (trust.md §4, transition 9)
	maxLead = 366 * 24 * time.Hour // a key announced for later than this is not believed
	skew    = time.Hour            // clocks differ
)

var (
	// ErrTooNew says that a key named successors before it was known itself (BTNS-TRUST-41).
	ErrTooNew = errors.New("trust: the key was not known before this session, so that it cannot name others")
	// ErrUnproven says that a key was named whose holder did not sign for it.
	ErrUnproven = errors.New("trust: a successor without proof")
	// ErrSucceeded says that a key named successors although one of its own is in use: it has no say any more, else
	// whoever finds an old key could turn the rotation back.
	ErrSucceeded = errors.New("trust: the key has a successor in use, so that it cannot name others")
	// ErrLead says that a key was named for too far in the future.
	ErrLead = errors.New("trust: a successor for more than a year ahead")
)

// Succeed takes the list of keys that a peer named in a session under its recorded key (BTNS-TRUST-41). It replaces the
// list before it. From then on a named key is this peer wherever the old one is recorded, as well known as that, and the
// old one ends when the new one sends a list without it (BTNS-TRUST-43), or 90 days after the new one came into use.
func (b *Book) Succeed(now time.Time, q Query, binding identity.Binding, list []Announced) ([]Change, error) {
	key := q.Key.Fingerprint()
	if err := b.maySucceed(now, q, key, binding, list); err != nil {
		return nil, err
	}
	next := b.successors(now, key, list)
	if len(next) == 0 && b.find(Place{}, key) == nil {
		return b.retireOmitted(now, key, list, nil), nil
	}
	r, out, err := b.ofKey(now, key)
	if err != nil {
		return out, err
	}
	r.Public, r.LastSeen = q.Key, now
	if !slices.EqualFunc(r.Next, next, func(x, y Successor) bool { return x.Key == y.Key && x.From.Equal(y.From) }) {
		b.unindex(r)
		r.Next = next
		b.index(r)
		var names []identity.Fingerprint
		for _, s := range next {
			names = append(names, s.Key.Fingerprint())
		}
		b.tell(Named{key, names})
	}
	out = append(out, Put{*r})
	return b.retireOmitted(now, key, list, out), nil
}

func (b *Book) maySucceed(now time.Time, q Query, key identity.Fingerprint, binding identity.Binding, list []Announced) error {
	switch {
	case b.revoked(key) != nil:
		return ErrRevoked
	case key.IsZero() || !b.familiar(now, key):
		return ErrNoRecord
	case q.Level < identity.Continuity:
		return ErrTooNew
	case b.ended(now, key) || b.succeeded(key):
		return ErrSucceeded
	case len(list) > maxAnnounced:
		return ErrAnnouncement
	}
	for _, a := range list {
		switch {
		case a.From.Sub(now) > maxLead:
			return ErrLead
		case a.Key != q.Key && !a.Proven(binding, q.Key):
			return ErrUnproven
		}
	}
	return nil
}

// successors are the keys of a list that may take over from key: not itself, not one that was revoked, and none that it
// took over from, which would turn a rotation back.
func (b *Book) successors(now time.Time, key identity.Fingerprint, list []Announced) []Successor {
	var out []Successor
	for _, a := range list {
		f := a.Key.Fingerprint()
		if f == key || b.revoked(f) != nil || b.descends(key, f, 0) {
			continue
		}
		out = append(out, Successor{a.Key, a.From, now})
	}
	return out
}

// descends reports whether key took over from old, at any remove.
func (b *Book) descends(key, old identity.Fingerprint, depth int) bool {
	return slices.ContainsFunc(b.named[key], func(f identity.Fingerprint) bool {
		return f == old || depth < maxForebears && b.descends(f, old, depth+1)
	})
}

// retireOmitted ends the keys that named this one and that its list leaves out (BTNS-TRUST-43).
func (b *Book) retireOmitted(now time.Time, key identity.Fingerprint, list []Announced, out []Change) []Change {
	for _, old := range slices.Clone(b.named[key]) {
		listed := slices.ContainsFunc(list, func(a Announced) bool { return a.Key.Fingerprint() == old })
		if r := b.find(Place{}, old); !listed && r != nil && b.names(now, old, key) {
			r.Heir = key
			out = b.retire(now, r, out)
		}
	}
	return out
}

// names reports whether old named key as its successor, and key may be used.
func (b *Book) names(now time.Time, old, key identity.Fingerprint) bool {
	if !slices.Contains(b.named[key], old) {
		return false
	}
	r := b.find(Place{}, old)
	return r != nil && r.Revoked.IsZero() && slices.ContainsFunc(r.Next, func(s Successor) bool {
		return s.Key.Fingerprint() == key && !s.From.After(now.Add(skew))
	})
}

// succeeded reports whether a successor of key is in use.
func (b *Book) succeeded(key identity.Fingerprint) bool {
	r := b.find(Place{}, key)
	return r != nil && !r.Heir.IsZero()
}

// ended reports whether the time of a key is over, since its successor has been in use for long enough.
func (b *Book) ended(now time.Time, key identity.Fingerprint) bool {
	r := b.find(Place{}, key)
	return r != nil && b.retired(now, r)
}

func (b *Book) retired(now time.Time, r *Record) bool {
	return !r.Retire.IsZero() && !r.Retire.After(now) && r.Revoked.IsZero() && b.revoked(r.Heir) == nil
}

// handOver makes r, the record of a key that came into use, as well known as old, whose key named it.
func (b *Book) handOver(now time.Time, old, r *Record, out []Change) []Change {
	r.Evidence = nil
	r.inherit(old)
	r.Inbound = old.Inbound
	r.note(HandedOver, now)
	r.Sessions = old.Sessions
	k := b.find(Place{}, old.Key)
	if k.Heir.IsZero() {
		k.Heir, k.Retire = r.Key, now.Add(overlap)
		out = append(out, Put{*k})
	}
	b.tell(Succeeded{r.place(), old.Key, r.Key})
	return out
}

// retire ends a key whose heir is in use: what was known of it is known of the heir.
func (b *Book) retire(now time.Time, k *Record, out []Change) []Change {
	key, heir := k.Key, k.Heir
	var public identity.PublicKey
	for _, s := range k.Next {
		if s.Key.Fingerprint() == heir {
			public = s.Key
		}
	}
	b.tell(Retired{key, heir})
	old := slices.SortedFunc(slices.Values(b.keys[key]), compare)
	for _, r := range old {
		b.remove(r)
		out = append(out, Delete{*r})
		h := b.find(r.place(), heir)
		if h == nil {
			h = &Record{
				Addr: r.Addr, Network: r.Network, Name: r.Name, Key: heir, Public: public,
				FirstSeen: r.FirstSeen, LastSeen: r.LastSeen, Inbound: r.Inbound, Suspended: r.Suspended,
			}
			b.add(h)
		}
		h.inherit(r)
		h.note(HandedOver, now)
		out = append(out, Put{*h})
		b.tell(Lowered{r.place(), key, b.level(h), Superseded})
	}
	return out
}

func (b *Book) index(r *Record) {
	for _, s := range r.Next {
		f := s.Key.Fingerprint()
		if !slices.Contains(b.named[f], r.Key) {
			b.named[f] = append(b.named[f], r.Key)
		}
	}
}

func (b *Book) unindex(r *Record) {
	for _, s := range r.Next {
		f := s.Key.Fingerprint()
		b.named[f] = slices.DeleteFunc(b.named[f], func(o identity.Fingerprint) bool { return o == r.Key })
		if len(b.named[f]) == 0 {
			delete(b.named, f)
		}
	}
}
