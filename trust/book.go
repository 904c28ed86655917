package trust

import (
	"net/netip"
	"slices"
	"time"

	"github.com/btns-ipsec/btns/identity"
)

// Config is how a book behaves. Zero fields are the defaults.
type Config struct {
	Mode Mode
	Max  int           // records; 65,536
	Life time.Duration // of an address record since it was last seen; 30 days (BTNS-TRUST-14)
}

const (
	defaultMax  = 1 << 16
	defaultLife = 30 * 24 * time.Hour
	freshness   = time.Hour // LastSeen is kept this exactly, so that a busy peer does not keep the store busy
)

// Book is what is known of peers' keys.
type Book struct {
	cfg       Config
	places    map[Place][]*Record
	keys      map[identity.Fingerprint][]*Record
	size      int
	essential map[netip.Addr]bool
	refusals  refusals
}

// New makes a book of what a store holds. Records beyond Config.Max are kept: only new ones are turned away.
func New(cfg Config, records []Record) *Book {
	if cfg.Max <= 0 {
		cfg.Max = defaultMax
	}
	if cfg.Life <= 0 {
		cfg.Life = defaultLife
	}
	b := &Book{cfg: cfg, places: map[Place][]*Record{}, keys: map[identity.Fingerprint][]*Record{}}
	for _, r := range records {
		if b.find(r.place(), r.Key) == nil {
			b.add(&r)
		}
	}
	return b
}

// SetMode changes the mode; what is recorded stays.
func (b *Book) SetMode(m Mode) { b.cfg.Mode = m }

// SetEssential names the addresses that are never sticky, so that a host cannot lock itself out of its network: default
// gateway, resolvers, DHCP servers.
func (b *Book) SetEssential(addrs []netip.Addr) {
	b.essential = make(map[netip.Addr]bool, len(addrs))
	for _, a := range addrs {
		b.essential[At(a, "").Addr] = true
	}
}

// Essential reports whether an address is one of those.
func (b *Book) Essential(addr netip.Addr) bool { return b.essential[At(addr, "").Addr] }

// Len is the number of records.
func (b *Book) Len() int { return b.size }

// List returns all records, by address.
func (b *Book) List() []Record {
	all := make([]*Record, 0, b.size)
	for _, rs := range b.places {
		all = append(all, rs...)
	}
	slices.SortFunc(all, compare)
	out := make([]Record, len(all))
	for i, r := range all {
		out[i] = *r
	}
	return out
}

// Lookup returns what is recorded of an address and has not aged out, the newest first.
func (b *Book) Lookup(now time.Time, addr netip.Addr, network string) []Record {
	var out []Record
	for _, r := range b.valid(now, At(addr, network)) {
		out = append(out, *r)
	}
	slices.SortStableFunc(out, func(x, y Record) int { return y.LastSeen.Compare(x.LastSeen) })
	return out
}

// Known reports whether any key is recorded for an address.
func (b *Book) Known(now time.Time, addr netip.Addr, network string) bool {
	return len(b.valid(now, At(addr, network))) > 0
}

// Sticky reports whether traffic with an address must be protected because it once was.
func (b *Book) Sticky(now time.Time, addr netip.Addr, network string) bool {
	p := At(addr, network)
	if b.Essential(addr) {
		return false
	}
	return slices.ContainsFunc(b.valid(now, p), func(r *Record) bool { return r.Sticky && !r.Suspended })
}

// valid returns the records of a place that have not aged out. An invalid address has none: it is no place.
func (b *Book) valid(now time.Time, p Place) []*Record {
	if !p.Addr.IsValid() {
		return nil
	}
	rs := b.places[p]
	for i, r := range rs {
		if b.aged(now, r) { // the usual case copies nothing
			out := slices.Clone(rs[:i])
			for _, r := range rs[i:] {
				if !b.aged(now, r) {
					out = append(out, r)
				}
			}
			return out
		}
	}
	return rs
}

// aged reports whether a record is too old to count: addresses are assigned anew, operators' words stay
// (BTNS-TRUST-14).
func (b *Book) aged(now time.Time, r *Record) bool {
	return !r.Verified() && now.Sub(r.LastSeen) > b.cfg.Life
}

// Expire removes the records that have aged out, and with them their stickiness; call it now and then.
func (b *Book) Expire(now time.Time) []Change {
	var old []*Record
	for _, rs := range b.places {
		for _, r := range rs {
			if b.aged(now, r) {
				old = append(old, r)
			}
		}
	}
	return b.removeAll(old, nil)
}

// Suspend notes that the holder of a key stopped in good order: its silence is no attack.
func (b *Book) Suspend(key identity.Fingerprint) []Change {
	var out []Change
	for _, r := range b.keys[key] {
		if !r.Suspended {
			r.Suspended = true
			out = append(out, Put{*r})
		}
	}
	return out
}

// Forget removes what is recorded of an address, in every network, and what was refused there.
func (b *Book) Forget(addr netip.Addr) []Change {
	addr = At(addr, "").Addr
	var gone []*Record
	for p, rs := range b.places {
		if p.Addr == addr {
			gone = append(gone, rs...)
		}
	}
	b.refusals.forget(addr)
	return b.removeAll(gone, nil)
}

// ForgetKey removes what is recorded of a key.
func (b *Book) ForgetKey(key identity.Fingerprint) []Change {
	return b.removeAll(slices.Clone(b.keys[key]), nil)
}

func (b *Book) find(p Place, key identity.Fingerprint) *Record {
	shorter := b.keys[key]
	if at := b.places[p]; len(at) < len(shorter) {
		shorter = at
	}
	for _, r := range shorter {
		if r.Key == key && r.place() == p {
			return r
		}
	}
	return nil
}

// forgetAged removes what has aged out at one place.
func (b *Book) forgetAged(now time.Time, p Place) []Change {
	var old []*Record
	for _, r := range b.places[p] {
		if b.aged(now, r) {
			old = append(old, r)
		}
	}
	return b.removeAll(old, nil)
}

func (b *Book) add(r *Record) {
	b.places[r.place()] = append(b.places[r.place()], r)
	b.keys[r.Key] = append(b.keys[r.Key], r)
	b.size++
}

func (b *Book) removeAll(rs []*Record, out []Change) []Change {
	slices.SortFunc(rs, compare)
	for _, r := range rs {
		b.remove(r)
		out = append(out, Delete{*r})
	}
	return out
}

func (b *Book) remove(r *Record) {
	cut(b.places, r.place(), r)
	cut(b.keys, r.Key, r)
	b.size--
}

func cut[K comparable](m map[K][]*Record, k K, r *Record) {
	rs := m[k]
	if i := slices.Index(rs, r); i >= 0 {
		rs = slices.Delete(rs, i, i+1)
	}
	if len(rs) == 0 {
		delete(m, k)
		return
	}
	m[k] = rs
}
