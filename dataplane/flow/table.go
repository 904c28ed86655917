package flow

import (
	"net/netip"
	"slices"

	"github.com/gaissmai/bart"

	"github.com/btns-ipsec/btns/selector"
)

// Table is what a plane works from. It never changes: [Table.Build] makes the next one, sharing nearly all with this one,
// and the plane publishes it through an atomic pointer.
type Table struct {
	hosts [2]trie[entry]      // single addresses of either family: ten thousand change as cheaply as ten
	nets  *bart.Table[*entry] // all other prefixes
	bySPI trie[*Pair]
	byID  trie[record]
	rules *ruleBook // nil: none
	terms []*terms  // see Pair.share
}

// entry is what is known of a prefix of remote addresses. It does not change.
type entry struct {
	senders       // to selectors within
	state   State // Clear: says nothing, the next shorter prefix counts
	bits    uint8 // of the prefix
}

// senders are pairs that send, newest first: mostly one. They do not change.
type senders struct {
	pair *Pair // nil: none
	next *senders
}

// all is every one of them.
func (s senders) all(yield func(*Pair) bool) {
	for n := &s; n != nil && n.pair != nil && yield(n.pair); n = n.next {
	}
}

// with is p before all of s.
func (s senders) with(p *Pair) senders {
	if s.pair == nil {
		return senders{pair: p}
	}
	return senders{p, &s}
}

// replaced is s with another pair in the place of old, or none.
func (s senders) replaced(old, by *Pair) (out senders) {
	list := slices.Collect(s.all)
	for _, p := range slices.Backward(list) {
		if p == old {
			p = by
		}
		if p != nil {
			out = out.with(p)
		}
	}
	return out
}

type record struct {
	pair    *Pair
	sending bool
}

// NewTable is a table without pairs, in which all is clear.
func NewTable() *Table { return &Table{nets: new(bart.Table[*entry])} }

// Verdict is what to do with a packet.
type Verdict struct {
	Action Action
	Reason Reason // with Drop
	Pair   *Pair  // with Seal; with Drop the spent one
}

// BySPI is the pair whose inbound SA has that SPI, or nil.
func (t *Table) BySPI(spi uint32) *Pair {
	p, _ := t.bySPI.get(number(uint64(spi)))
	return p
}

// Pair is the pair of that ID, or nil.
func (t *Table) Pair(id PairID) *Pair {
	r, _ := t.byID.get(number(uint64(id)))
	return r.pair
}

// Sending reports whether outbound packets take the pair.
func (t *Table) Sending(id PairID) bool {
	r, _ := t.byID.get(number(uint64(id)))
	return r.sending
}

// Len is the number of pairs.
func (t *Table) Len() int { return t.byID.size }

// Pairs calls f for every pair, in no order, until it returns false.
func (t *Table) Pairs(f func(*Pair) bool) {
	t.byID.each(func(_ key, r record) bool { return f(r.pair) })
}

// Prefixes calls f for every prefix with a state, in no order, until it returns false.
func (t *Table) Prefixes(f func(netip.Prefix, State) bool) {
	more := true
	each := func(p netip.Prefix, s State) bool {
		more = s == Clear || f(p, s)
		return more
	}
	for n, hosts := range t.hosts {
		hosts.each(func(k key, e entry) bool {
			a := k.address(n)
			return each(netip.PrefixFrom(a, a.BitLen()), e.state)
		})
		if !more {
			return
		}
	}
	for p, e := range t.nets.All() {
		if !each(p, e.state) {
			return
		}
	}
}

// State is the disposition of an address and the prefix that says so; false when none does.
func (t *Table) State(a netip.Addr) (State, netip.Prefix, bool) {
	if e := t.stated(t.longest(a), a); e != nil {
		p, err := a.Prefix(int(e.bits))
		return e.state, p, err == nil
	}
	return Clear, netip.Prefix{}, false
}

func (t *Table) longest(a netip.Addr) *entry {
	if e := t.hosts[family(a)].find(address(a)); e != nil {
		return e
	}
	e, _ := t.nets.Lookup(a)
	return e
}

// exact is the entry of a prefix, or nil.
func (t *Table) exact(p netip.Prefix) (e *entry) {
	if p.IsSingleIP() {
		e = t.hosts[family(p.Addr())].find(address(p.Addr()))
	} else {
		e, _ = t.nets.Get(p)
	}
	return e
}

func family(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}

// above is the entry of the next shorter prefix that a is in.
func (t *Table) above(e *entry, a netip.Addr) *entry {
	if e.bits == 0 {
		return nil
	}
	p, err := a.Prefix(int(e.bits) - 1)
	if err != nil {
		return nil
	}
	e, _ = t.nets.LookupPrefix(p)
	return e
}

func (t *Table) stated(e *entry, a netip.Addr) *entry {
	for e != nil && e.state == Clear {
		e = t.above(e, a)
	}
	return e
}

// sender is the pair that f takes: of the longest prefix, then the newest, whose selectors have it.
func (t *Table) sender(e *entry, f *selector.Flow) *Pair {
	for ; e != nil; e = t.above(e, f.Remote) {
		for s := &e.senders; s != nil && s.pair != nil; s = s.next {
			if s.pair.takes(f) {
				return s.pair
			}
		}
	}
	return nil
}

// Out is the verdict on an outbound packet: Pass, Seal, Queue or Drop.
func (t *Table) Out(f *selector.Flow) Verdict {
	if neighbourDiscovery(f) {
		return Verdict{Action: Pass}
	}
	must := false
	if r := t.rule(f); r != nil {
		switch r.Action {
		case Pass:
			return Verdict{Action: Pass}
		case Drop:
			return Verdict{Action: Drop, Reason: Discarded}
		}
		must = r.MustOut
	}
	e := t.longest(f.Remote)
	s := t.stated(e, f.Remote)
	switch {
	case s == nil && !must:
		return Verdict{Action: Pass}
	case s != nil && s.state == Closed:
		return Verdict{Action: Drop, Reason: PrefixClosed}
	}
	p := t.sender(e, f)
	switch {
	case p == nil && (s == nil || s.state != Protect):
		return Verdict{Action: Queue}
	case p == nil:
		return Verdict{Action: Drop, Reason: NoSA}
	case p.Spent():
		return Verdict{Action: Drop, Reason: SpentSA, Pair: p}
	}
	return Verdict{Action: Seal, Pair: p}
}

// InClear is the verdict on a packet that came in without ESP (RFC 4301 §5.2 step 3b): Accept or Drop.
func (t *Table) InClear(f *selector.Flow) Verdict {
	if neighbourDiscovery(f) {
		return Verdict{Action: Accept}
	}
	must := false
	if r := t.rule(f); r != nil {
		switch r.Action {
		case Pass:
			return Verdict{Action: Accept}
		case Drop:
			return Verdict{Action: Drop, Reason: Discarded}
		}
		must = r.MustIn
	}
	s := t.stated(t.longest(f.Remote), f.Remote)
	if (s == nil || s.state == Upgrade) && !must {
		return Verdict{Action: Accept}
	}
	return Verdict{Action: Drop, Reason: ClearRefused}
}

// neighbourDiscovery reports whether f is solicitation and advertisement of routers or neighbours: an SA cannot be made
// before they have passed, and the receiver takes them from the link only (RFC 4861 §6.1, §7.1). Redirects are not such.
func neighbourDiscovery(f *selector.Flow) bool {
	typ := f.RemotePort >> 8
	return f.Proto == selector.ICMPv6 && !f.NoPorts && f.Remote.Is6() && typ >= 133 && typ <= 136
}
