package flow

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/gaissmai/bart"

	"github.com/btns-ipsec/btns/selector"
)

// Rule is what the SPD says about traffic between two sets of selectors. The first rule that matches a packet decides.
type Rule struct {
	Local, Remote selector.Set
	// Action is Pass (in clear both ways, whatever the state of the prefix), Drop, or Seal: as the state of the prefix says.
	Action Action
	// MustOut and MustIn go with Seal: nothing passes that way in clear, not even while the prefix is Clear or Upgrade.
	MustOut, MustIn bool
	// Tally is under which number a plane counts what leaves in clear by the rule; 0: under none.
	Tally uint32
}

// same reports whether it makes no difference to a packet which of the two it is.
func (r *Rule) same(o *Rule) bool {
	return r.Action == o.Action && r.MustOut == o.MustOut && r.MustIn == o.MustIn
}

// discard is for what no rule is about (RFC 4301 §5.1).
var discard = Rule{Action: Drop}

// ruleBook is the rules by remote prefix: what stands at the longest one that an address is in is all that concerns it.
type ruleBook struct {
	rules    []Rule
	prefixes bart.Table[*ruleList]
}

// ruleList is the rules for the addresses of one prefix.
type ruleList struct {
	protos [4]uint64 // those that the exceptions are about: the others need not be held against them
	first  []*Rule   // the exceptions, in order
	rest   *Rule     // takes everything else
}

// SetRules replaces all rules. Without any, the states of prefixes alone decide; with some, what none of them matches is
// dropped.
func (b *Builder) SetRules(list []Rule) error {
	book := &ruleBook{rules: slices.Clone(list)}
	var at []netip.Prefix
	for i := range book.rules {
		r := &book.rules[i]
		if err := r.valid(); err != nil {
			return fmt.Errorf("%w: rule %d: %w", ErrSpec, i, err)
		}
		at = append(at, keys(r.Remote)...)
	}
	for _, p := range at {
		if _, ok := book.prefixes.Get(p); !ok {
			book.prefixes.Insert(p, book.list(p))
		}
	}
	if b.t.rules = book; len(list) == 0 {
		b.t.rules = nil
	}
	return nil
}

// SetRules is [Builder.SetRules] as one step.
func (t *Table) SetRules(list []Rule) *Table {
	return t.step(func(b *Builder) error { return b.SetRules(list) })
}

// Rules returns the rules in order; they belong to the table.
func (t *Table) Rules() []Rule {
	if t.rules == nil {
		return nil
	}
	return t.rules.rules
}

var errRule = errors.New("no selectors, or no such action")

func (r *Rule) valid() error {
	bad := len(r.Local) == 0 || len(r.Remote) == 0 || r.Action != Pass && r.Action != Drop && r.Action != Seal ||
		r.Action != Seal && (r.MustOut || r.MustIn)
	for _, s := range [...]selector.Set{r.Local, r.Remote} {
		bad = bad || slices.ContainsFunc(s, func(x selector.Selector) bool { return !x.Valid() })
	}
	if bad {
		return errRule
	}
	return nil
}

// list is what concerns the addresses in p: the rules that stand at p or at a shorter prefix around it, up to the first
// that takes everything.
func (b *ruleBook) list(p netip.Prefix) *ruleList {
	l := &ruleList{rest: &discard}
	for i := range b.rules {
		r := &b.rules[i]
		if !slices.ContainsFunc(keys(r.Remote), func(k netip.Prefix) bool { return k.Bits() <= p.Bits() && k.Contains(p.Addr()) }) {
			continue
		}
		if r.takesAll(p) {
			l.rest = r
			break
		}
		l.first = append(l.first, r)
	}
	for n := len(l.first); n > 0 && l.first[n-1].same(l.rest); n-- { // says nothing else than the rest
		l.first = l.first[:n-1]
	}
	for _, r := range l.first {
		l.note(r)
	}
	return l
}

// takesAll reports whether a rule has all traffic with a prefix.
func (r *Rule) takesAll(p netip.Prefix) bool {
	any := selector.Any6()
	if p.Addr().Is4() {
		any = selector.Any4()
	}
	return r.Local.Covers(selector.Set{any}) && r.Remote.Covers(selector.Set{selector.Prefix(p)})
}

func (l *ruleList) note(r *Rule) {
	for _, x := range r.Remote {
		for _, y := range r.Local {
			proto := max(x.Proto, y.Proto) // 0 is any
			if proto == 0 {
				l.protos = [4]uint64{^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0)}
				return
			}
			l.protos[proto>>6] |= 1 << (proto & 63)
		}
	}
}

// rule is what decides about f, or nil where there are no rules.
func (t *Table) rule(f *selector.Flow) *Rule {
	if t.rules == nil {
		return nil
	}
	l, ok := t.rules.prefixes.Lookup(f.Remote)
	if !ok {
		return &discard
	}
	if l.protos[f.Proto>>6]&(1<<(f.Proto&63)) != 0 {
		for _, r := range l.first {
			if selector.Match(r.Local, r.Remote, *f) {
				return r
			}
		}
	}
	return l.rest
}

// Tally is under which number a packet counts that leaves in clear; 0: none.
func (t *Table) Tally(f *selector.Flow) uint32 {
	if neighbourDiscovery(f) {
		return 0
	}
	for i := range t.Rules() {
		if r := &t.rules.rules[i]; selector.Match(r.Local, r.Remote, *f) {
			return r.Tally
		}
	}
	return 0
}

// Opened is whether the rules let a packet in that came out of an SA (RFC 4301 §5.2, BTNS-CORE-23). What its SA may carry
// has been checked before, and an SA's selectors hold nothing that a rule keeps for other peers; what a rule has pass in
// clear may come protected too.
func (t *Table) Opened(f *selector.Flow) Reason {
	if r := t.rule(f); r != nil && r.Action == Drop {
		return Discarded
	}
	return NoReason
}
