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
	// Recycled are ranges whose addresses are given to one host after the other: pods, DHCP pools, cloud subnets. A key
	// there is known by itself, its address pins nothing and is not sticky, except where an operator vouches for it.
	Recycled []netip.Prefix
}

const (
	defaultMax  = 1 << 16
	defaultLife = 30 * 24 * time.Hour
	freshness   = time.Hour // LastSeen is kept this exactly, so that a busy peer does not keep the store busy
)

// Book is what is known of peers' keys.
type Book struct {
	cfg       Config
	places    map[Place][]*Record // without those that have no place
	keys      map[identity.Fingerprint][]*Record
	named     map[identity.Fingerprint][]identity.Fingerprint // a successor to the keys that named it
	size      int
	essential map[netip.Addr]bool
	refusals  refusals
	crowds    crowds
	alive     map[identity.Fingerprint]*presence
	events    []Event
	lost      int
}

// New makes a book of what a store holds. Records beyond Config.Max are kept: only new ones are turned away.
func New(cfg Config, records []Record) *Book {
	if cfg.Max <= 0 {
		cfg.Max = defaultMax
	}
	if cfg.Life <= 0 {
		cfg.Life = defaultLife
	}
	b := &Book{
		cfg: cfg, places: map[Place][]*Record{}, keys: map[identity.Fingerprint][]*Record{},
		named: map[identity.Fingerprint][]identity.Fingerprint{}, alive: map[identity.Fingerprint]*presence{},
	}
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
	for _, rs := range b.keys {
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

// LookupName is Lookup for a name.
func (b *Book) LookupName(now time.Time, name string) []Record {
	var out []Record
	for _, r := range b.valid(now, Place{Name: name}) {
		out = append(out, *r)
	}
	return out
}

// Key returns what is recorded of a key, by place; the record of the key itself comes first.
func (b *Book) Key(key identity.Fingerprint) []Record {
	rs := slices.SortedFunc(slices.Values(b.keys[key]), compare)
	out := make([]Record, len(rs))
	for i, r := range rs {
		out[i] = *r
	}
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

// valid returns the records of a place that count: not aged out, and not of a recycled address unless an operator
// vouches for them there. No place has none.
func (b *Book) valid(now time.Time, p Place) []*Record {
	rs := b.places[p]
	recycled := len(rs) > 0 && b.recycled(p.Addr)
	gone := func(r *Record) bool { return b.aged(now, r) || recycled && !r.Verified() }
	for i, r := range rs {
		if gone(r) { // the usual case copies nothing
			out := slices.Clone(rs[:i])
			for _, r := range rs[i:] {
				if !gone(r) {
					out = append(out, r)
				}
			}
			return out
		}
	}
	return rs
}

// aged reports whether a record is too old to count: addresses are assigned anew; names are not, and what an operator
// said stays (BTNS-TRUST-14). The successors that a key named stay as long as the key is known anywhere.
func (b *Book) aged(now time.Time, r *Record) bool {
	if r.Verified() || r.Name != "" || !r.Revoked.IsZero() || now.Sub(r.LastSeen) <= b.cfg.Life {
		return false
	}
	return len(r.Next) == 0 || !slices.ContainsFunc(b.keys[r.Key], func(o *Record) bool { return o != r && !b.aged(now, o) })
}

// Expire removes the records that have aged out, and with them their stickiness, and ends the keys whose successors have
// been in use for long enough; call it now and then.
func (b *Book) Expire(now time.Time) []Change {
	var old, retiring []*Record
	for _, rs := range b.keys {
		for _, r := range rs {
			switch {
			case b.aged(now, r):
				old = append(old, r)
			case b.retired(now, r):
				retiring = append(retiring, r)
			}
		}
	}
	out := b.removeAll(old, nil, Aged)
	slices.SortFunc(retiring, compare)
	for _, r := range retiring {
		out = b.retire(now, r, out)
	}
	return out
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

func (b *Book) find(p Place, key identity.Fingerprint) *Record {
	shorter := b.keys[key]
	if at := b.places[p]; !p.IsZero() && len(at) < len(shorter) {
		shorter = at
	}
	for _, r := range shorter {
		if r.Key == key && r.place() == p {
			return r
		}
	}
	return nil
}

func (b *Book) add(r *Record) {
	if p := r.place(); !p.IsZero() {
		b.places[p] = append(b.places[p], r)
	}
	b.keys[r.Key] = append(b.keys[r.Key], r)
	b.index(r)
	b.size++
}

// removeAll takes records out and tells why; Evicted ones go in silence, since nothing rested on them.
func (b *Book) removeAll(rs []*Record, out []Change, why Why) []Change {
	slices.SortFunc(rs, compare)
	for _, r := range rs {
		from := b.level(r)
		b.remove(r)
		if why != evicted {
			b.lower(r, from, why)
		}
		out = append(out, Delete{*r})
	}
	return out
}

const evicted Why = ""

func (b *Book) remove(r *Record) {
	if p := r.place(); !p.IsZero() {
		cut(b.places, p, r)
	}
	cut(b.keys, r.Key, r)
	b.unindex(r)
	if len(b.keys[r.Key]) == 0 {
		delete(b.alive, r.Key)
	}
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
