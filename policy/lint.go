package policy

import (
	"slices"

	"github.com/btns-ipsec/btns/selector"
)

// lintSPD finds entries that nothing reaches, and weaker ones that stand before stronger (BTNS-CORE-65).
func (p *Policy) lintSPD() {
	for _, s := range p.Shadowed() {
		if s.everything() { // a default may go unused
			continue
		}
		p.warn("SPD entry %q%s is never reached: %q has all of its traffic", s.Name, s.where(), s.By[len(s.By)-1].Name)
	}
	for i := range p.spd {
		e := &p.spd[i]
		if e.BtnsFallthrough {
			p.warn("SPD entry %q%s lets unauthenticated peers fall through to weaker entries (btns_fallthrough)", e.Name, e.where())
		}
		for j := range p.spd[:i] {
			o := &p.spd[j]
			stronger := e.Action == Protect && !e.BtnsOK && !e.NullOK
			if o.Action == Protect && (o.BtnsOK || o.NullOK) && stronger && o.Local.Overlaps(e.Local) && o.Remote.Overlaps(e.Remote) {
				p.warn("SPD entry %q%s, open to unauthenticated peers, takes traffic of the stronger %q", o.Name, o.where(), e.Name)
			}
		}
	}
}

// Shadow is an entry that no packet reaches, and the earlier ones that have its traffic.
type Shadow struct {
	*Entry
	By []*Entry
}

// Shadowed returns the entries that nothing reaches. It may miss one whose traffic is spread over many earlier entries,
// and never names one that has traffic left.
func (p *Policy) Shadowed() []Shadow {
	var out []Shadow
	for i := range p.spd {
		if by := p.covering(i); by != nil {
			out = append(out, Shadow{&p.spd[i], by})
		}
	}
	return out
}

// covering returns the entries before number i that together have all of its traffic, or nil.
func (p *Policy) covering(i int) []*Entry {
	left := []pair{tie(p.spd[i].Local, p.spd[i].Remote)}
	var by []*Entry
	for j := range p.spd[:i] {
		o := &p.spd[j]
		if o.BtnsFallthrough { // whom it passes over, later entries serve
			continue
		}
		was := left
		if left = uncovered(left, o); len(left) == 0 {
			return append(by, o)
		}
		if len(left) > maxPairs {
			return nil
		}
		if !slices.EqualFunc(was, left, pair.same) {
			by = append(by, o)
		}
	}
	return nil
}

// uncovered is what an entry leaves. What cannot be taken away exactly stays.
func uncovered(left []pair, e *Entry) []pair {
	var out []pair
	for _, q := range left {
		if q.intersect(e.Local, e.Remote).empty() || splits(q, e) {
			out = append(out, q)
			continue
		}
		out = append(out, q.subtract(e.Local, e.Remote)...)
	}
	return out
}

func (p pair) same(q pair) bool {
	return slices.Equal(p.local, q.local) && slices.Equal(p.remote, q.remote)
}

func (e *Entry) everything() bool {
	return e.Local.Covers(selector.Any()) && e.Remote.Covers(selector.Any())
}
