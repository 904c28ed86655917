package planetest

import (
	"slices"

	"github.com/btns-ipsec/btns/dataplane"
	"github.com/btns-ipsec/btns/dataplane/flow"
	"github.com/btns-ipsec/btns/selector"
)

// rerule changes the rules of a plane.
func rerule(edit func([]flow.Rule) []flow.Rule) func(*rules) {
	return changes(func(c []dataplane.Change) []dataplane.Change {
		for i := range c {
			if r, ok := c[i].(dataplane.SetRules); ok {
				c[i] = dataplane.SetRules{Rules: edit(slices.Clone(r.Rules))}
			}
		}
		return c
	})
}

// ruleless are planes that know little of the SPD.
func ruleless() []fault {
	each := func(edit func(*flow.Rule)) func(*rules) {
		return rerule(func(list []flow.Rule) []flow.Rule {
			for i := range list {
				edit(&list[i])
			}
			return list
		})
	}
	return []fault{
		{"ignores rules", changes(without[dataplane.SetRules])},
		{"has rules for IPv4 only", each(func(r *flow.Rule) {
			four := selector.Set{selector.Any4()}
			if r.Action == flow.Pass {
				r.Local, r.Remote = r.Local.Intersect(four), r.Remote.Intersect(four)
			}
		})},
		{"goes by the last rule", rerule(func(list []flow.Rule) []flow.Rule {
			if n := len(list); n > 0 {
				slices.Reverse(list[:n-1])
			}
			return list
		})},
		{"applies rules to what goes out only", func(r *rules) {
			r.inClear = func(t *flow.Table, f *selector.Flow) flow.Verdict { return t.SetRules(nil).InClear(f) }
		}},
		{"delivers out of ESP what is discarded", func(r *rules) {
			r.open = func(t *flow.Table, w Wired) ([]byte, *flow.Pair, flow.Reason) { return open(t.SetRules(nil), w) }
		}},
		{"discards with protected hosts only", func(r *rules) {
			out, in := r.out, r.inClear
			bare := func(t *flow.Table, f *selector.Flow, v flow.Verdict) *flow.Table {
				if s, _, _ := t.State(f.Remote); s == flow.Clear && v.Reason == flow.Discarded {
					return t.SetRules(nil)
				}
				return t
			}
			r.out = func(t *flow.Table, f *selector.Flow, pkt []byte, i *flow.PacketInfo) flow.Verdict {
				return out(bare(t, f, out(t, f, pkt, i)), f, pkt, i)
			}
			r.inClear = func(t *flow.Table, f *selector.Flow) flow.Verdict { return in(bare(t, f, in(t, f)), f) }
		}},
		{"drops what it should keep for a host of which nothing is known", verdict(func(t *flow.Table, f *selector.Flow, v flow.Verdict) flow.Verdict {
			if _, _, ok := t.State(f.Remote); !ok && v.Action == flow.Queue {
				return flow.Verdict{Action: flow.Drop, Reason: flow.NoSA}
			}
			return v
		})},
		{"demands nothing", each(func(r *flow.Rule) { r.MustOut, r.MustIn = false, false })},
		{"keeps older rules", func(r *rules) {
			var all []flow.Rule
			rerule(func(list []flow.Rule) []flow.Rule {
				all = append(all, list...)
				return slices.Clone(all)
			})(r)
		}},
		{"asks for one SA with a peer only", func(r *rules) { r.mute = true }},
		{"counts what passes in clear under the last rule", func(r *rules) {
			r.tally = func(t *flow.Table, _ *selector.Flow) uint32 {
				if list := t.Rules(); len(list) > 0 {
					return list[len(list)-1].Tally
				}
				return 0
			}
		}},
		{"counts anew with every change of the rules", func(r *rules) {
			apply := r.apply
			changed := false
			r.apply = func(t *flow.Table, c []dataplane.Change) (*flow.Table, error) {
				changed = slices.ContainsFunc(c, func(c dataplane.Change) bool { _, ok := c.(dataplane.SetRules); return ok })
				return apply(t, c)
			}
			r.recount = func(_ *flow.Table, cleared map[uint32]dataplane.Cleared) {
				if changed {
					clear(cleared)
				}
			}
		}},
		{"never forgets what it counted", func(r *rules) { r.recount = func(*flow.Table, map[uint32]dataplane.Cleared) {} }},
		{"counts what it protects as clear", func(r *rules) {
			out, counted := r.out, make(map[uint32]uint64)
			r.out = func(t *flow.Table, f *selector.Flow, pkt []byte, i *flow.PacketInfo) flow.Verdict {
				v := out(t, f, pkt, i)
				if v.Action == flow.Seal {
					counted[t.Tally(f)]++
				}
				return v
			}
			r.recount = func(_ *flow.Table, cleared map[uint32]dataplane.Cleared) {
				for n, more := range counted {
					c := cleared[n]
					cleared[n] = dataplane.Cleared{Tally: n, Packets: c.Packets + more, Bytes: c.Bytes + more}
				}
				clear(counted)
			}
		}},
		{"takes ICMP codes for nothing", rerule(func(list []flow.Rule) []flow.Rule {
			for i := range list {
				l := slices.Clone(list[i].Local)
				for j := range l {
					if p := &l[j].Ports; l[j].Proto == selector.ICMP || l[j].Proto == selector.ICMPv6 {
						p.From, p.To = p.From&0xff00, p.To|0xff
					}
				}
				list[i].Local = l
			}
			return list
		})},
		{"has no SA for ICMP errors", func(r *rules) {
			r.out = func(t *flow.Table, f *selector.Flow, _ []byte, _ *flow.PacketInfo) flow.Verdict { return t.Out(f) }
		}},
		{"has any SA for ICMP errors", func(r *rules) {
			out := r.out
			r.out = func(t *flow.Table, f *selector.Flow, pkt []byte, i *flow.PacketInfo) flow.Verdict {
				v := out(t, f, pkt, i)
				if v.Reason == flow.NoSA && (f.Proto == selector.ICMP || f.Proto == selector.ICMPv6) {
					t.Pairs(func(p *flow.Pair) bool { v = flow.Verdict{Action: flow.Seal, Pair: p}; return false })
				}
				return v
			}
		}},
		{"copies what it should mark", func(r *rules) { r.tos = func(_ *flow.Pair, inner uint8) uint8 { return inner } }},
	}
}
