package flow

import (
	"fmt"
	"math/bits"
	"net/netip"
	"slices"

	"github.com/btns-ipsec/btns/selector"
)

// Builder makes the next table out of one. What a change copies, the next ones change in place, so that many together cost
// little more than one. A change that fails leaves the builder as it was.
type Builder struct {
	t  Table
	by *owner
}

// Build begins the next table.
func (t *Table) Build() *Builder { return &Builder{t: *t, by: new(owner)} }

// Table is the result. The builder may go on from there.
func (b *Builder) Table() *Table {
	b.by = new(owner)
	t := b.t
	return &t
}

// Add installs a pair: inbound at once, outbound too with use. Its ID and its inbound SPI are new.
func (b *Builder) Add(p *Pair, use bool) error {
	if b.t.Pair(p.ID) != nil {
		return fmt.Errorf("%w: ID %d is taken", ErrSpec, p.ID)
	}
	if b.t.BySPI(p.SPIIn) != nil {
		return fmt.Errorf("%w: SPI %08x is taken", ErrSpec, p.SPIIn)
	}
	b.t.terms = p.share(b.t.terms)
	b.t.bySPI = b.t.bySPI.put(number(uint64(p.SPIIn)), p, b.by)
	b.t.byID = b.t.byID.put(number(uint64(p.ID)), record{pair: p}, b.by)
	if use {
		b.start(p)
	}
	return nil
}

// Use makes outbound packets take a pair; those with the same selectors stop sending.
func (b *Builder) Use(id PairID) error {
	r, err := b.record(id)
	if err == nil {
		b.start(r.pair)
	}
	return err
}

// Retire stops sending on a pair; it still receives.
func (b *Builder) Retire(id PairID) error {
	r, err := b.record(id)
	if err == nil {
		b.stop(r)
	}
	return err
}

// Remove forgets a pair. An unknown one is no error.
func (b *Builder) Remove(id PairID) {
	if r, err := b.record(id); err == nil {
		b.stop(r)
		b.t.byID = b.t.byID.delete(number(uint64(id)))
		b.t.bySPI = b.t.bySPI.delete(number(uint64(r.pair.SPIIn)))
	}
}

// Move changes the peer's outer address of a pair.
func (b *Builder) Move(id PairID, remote netip.AddrPort) error {
	r, err := b.record(id)
	if err != nil {
		return err
	}
	if !remote.Addr().IsValid() || remote.Addr().Is4() != r.pair.OuterLocal.Addr().Is4() {
		return fmt.Errorf("%w: ID %d cannot move to %v", ErrSpec, id, remote)
	}
	old := r.pair
	r.pair = old.moved(remote)
	b.t.byID = b.t.byID.put(number(uint64(id)), r, b.by)
	b.t.bySPI = b.t.bySPI.put(number(uint64(old.SPIIn)), r.pair, b.by)
	if r.sending {
		b.each(old, func(e *entry) {
			e.senders = e.replaced(old, r.pair)
		})
	}
	return nil
}

// SetPrefix says what happens to traffic with a prefix; Clear forgets it.
func (b *Builder) SetPrefix(p netip.Prefix, s State) error {
	if !p.IsValid() || p != p.Masked() || p.Addr().Is4In6() {
		return fmt.Errorf("%w: prefix %v", ErrSpec, p)
	}
	if s > Closed {
		return fmt.Errorf("%w: state %d of %v", ErrSpec, s, p)
	}
	b.edit(p, func(e *entry) { e.state = s })
	return nil
}

func (b *Builder) record(id PairID) (record, error) {
	r, ok := b.t.byID.get(number(uint64(id)))
	if !ok {
		return r, fmt.Errorf("%w: no ID %d", ErrSpec, id)
	}
	return r, nil
}

// start makes p the first choice for its selectors.
func (b *Builder) start(p *Pair) {
	for _, k := range p.keys() {
		if e := b.t.exact(k); e != nil {
			for q := range e.senders.all { // a copy: stop puts others in the place of e
				if q == p || p.same(q) {
					b.stop(record{pair: q, sending: true})
				}
			}
		}
	}
	b.each(p, func(e *entry) { e.senders = e.with(p) })
	b.t.byID = b.t.byID.put(number(uint64(p.ID)), record{pair: p, sending: true}, b.by)
}

func (b *Builder) stop(r record) {
	if !r.sending {
		return
	}
	b.each(r.pair, func(e *entry) {
		e.senders = e.replaced(r.pair, nil)
	})
	b.t.byID = b.t.byID.put(number(uint64(r.pair.ID)), record{pair: r.pair}, b.by)
}

// each edits the entries under which a pair sends.
func (b *Builder) each(p *Pair, edit func(*entry)) {
	for _, k := range p.keys() {
		b.edit(k, edit)
	}
}

// edit replaces the entry of a prefix by a changed copy; an entry that says nothing goes.
func (b *Builder) edit(k netip.Prefix, change func(*entry)) {
	old := b.t.exact(k)
	e := entry{bits: uint8(k.Bits())}
	if old != nil {
		e = *old
	}
	change(&e)
	gone, hosts := e.state == Clear && e.pair == nil, &b.t.hosts[family(k.Addr())]
	switch single := k.IsSingleIP(); {
	case gone && old == nil:
	case gone && single:
		*hosts = hosts.delete(address(k.Addr()))
	case gone:
		b.t.nets = b.t.nets.DeletePersist(k)
	case single:
		*hosts = hosts.put(address(k.Addr()), e, b.by)
	default:
		b.t.nets = b.t.nets.InsertPersist(k, &entry{e.senders, e.state, e.bits})
	}
}

// keys are the prefixes under which a pair with these remote selectors is found: for each selector the longest that holds
// all of it.
func keys(s selector.Set) []netip.Prefix {
	out := make([]netip.Prefix, 0, len(s))
	for _, sel := range s {
		if p := common(sel.From, sel.To); !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out
}

func common(from, to netip.Addr) netip.Prefix {
	if from.Is4() {
		a, b := from.As4(), to.As4()
		return netip.PrefixFrom(from, shared(a[:], b[:])).Masked()
	}
	a, b := from.As16(), to.As16()
	return netip.PrefixFrom(from, shared(a[:], b[:])).Masked()
}

// shared is how many leading bits a and b have in common.
func shared(a, b []byte) int {
	for i := range a {
		if x := a[i] ^ b[i]; x != 0 {
			return 8*i + bits.LeadingZeros8(x)
		}
	}
	return 8 * len(a)
}

// The methods below make one change and leave out why one cannot be made: the table stays as it was then.

// Add is [Builder.Add] as one step.
func (t *Table) Add(p *Pair, use bool) *Table {
	return t.step(func(b *Builder) error { return b.Add(p, use) })
}

// Use is [Builder.Use] as one step.
func (t *Table) Use(id PairID) *Table { return t.step(func(b *Builder) error { return b.Use(id) }) }

// Retire is [Builder.Retire] as one step.
func (t *Table) Retire(id PairID) *Table {
	return t.step(func(b *Builder) error { return b.Retire(id) })
}

// Remove is [Builder.Remove] as one step.
func (t *Table) Remove(id PairID) *Table {
	return t.step(func(b *Builder) error { b.Remove(id); return nil })
}

// Move is [Builder.Move] as one step.
func (t *Table) Move(id PairID, remote netip.AddrPort) *Table {
	return t.step(func(b *Builder) error { return b.Move(id, remote) })
}

// SetPrefix is [Builder.SetPrefix] as one step.
func (t *Table) SetPrefix(p netip.Prefix, s State) *Table {
	return t.step(func(b *Builder) error { return b.SetPrefix(p, s) })
}

func (t *Table) step(change func(*Builder) error) *Table {
	b := t.Build()
	if change(b) != nil {
		return t
	}
	return b.Table()
}
