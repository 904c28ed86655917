package planetest

import (
	"cmp"
	"net/netip"
	"slices"
	"sync"

	"github.com/btns-ipsec/btns/dataplane"
	"github.com/btns-ipsec/btns/dataplane/flow"
	"github.com/btns-ipsec/btns/esp"
	"github.com/btns-ipsec/btns/protect"
	"github.com/btns-ipsec/btns/selector"
)

// Fault is a plane with one fault.
type Fault struct {
	Name string
	New  func() Harness
}

// Broken are planes that a careless author might write; each fails some case.
func Broken() []Fault {
	var out []Fault
	for _, list := range [][]fault{leaks(), weak(), careless(), ruleless()} {
		for _, f := range list {
			out = append(out, Fault{f.name, func() Harness {
				r := goodRules()
				f.spoil(&r)
				return newHarness(r)
			}})
		}
	}
	return out
}

type fault struct {
	name  string
	spoil func(*rules)
}

// verdict spoils what happens to outbound packets after the right decision.
func verdict(change func(*flow.Table, *selector.Flow, flow.Verdict) flow.Verdict) func(*rules) {
	return func(r *rules) {
		right := r.out
		r.out = func(t *flow.Table, f *selector.Flow, pkt []byte, i *flow.PacketInfo) flow.Verdict {
			return change(t, f, right(t, f, pkt, i))
		}
	}
}

// changes spoils how changes are applied.
func changes(edit func([]dataplane.Change) []dataplane.Change) func(*rules) {
	return func(r *rules) {
		r.apply = func(t *flow.Table, c []dataplane.Change) (*flow.Table, error) {
			return dataplane.Next(t, edit(slices.Clone(c)))
		}
	}
}

// gives is 1 for a change that gives a prefix to the plane.
func gives(c dataplane.Change) int {
	if p, ok := c.(dataplane.SetPrefix); ok && p.State != flow.Clear {
		return 1
	}
	return 0
}

// without leaves out changes of a type.
func without[C dataplane.Change](c []dataplane.Change) []dataplane.Change {
	return slices.DeleteFunc(c, func(c dataplane.Change) bool { _, ok := c.(C); return ok })
}

// respec changes the specs of pairs.
func respec(edit func(*flow.Spec)) func(*rules) {
	return changes(func(c []dataplane.Change) []dataplane.Change {
		for i := range c {
			if a, ok := c[i].(dataplane.AddSA); ok {
				edit(&a.Spec)
				c[i] = a
			}
		}
		return c
	})
}

// leaks are planes from which packets go that should not.
func leaks() []fault {
	clear := flow.Verdict{Action: flow.Pass}
	reason := func(r flow.Reason) func(*rules) {
		return verdict(func(_ *flow.Table, _ *selector.Flow, v flow.Verdict) flow.Verdict {
			if v.Reason == r {
				return clear
			}
			return v
		})
	}
	return []fault{
		{"leaks in clear while no pair sends", reason(flow.NoSA)},
		{"leaks in clear after a hard limit", reason(flow.SpentSA)},
		{"leaks in clear what is closed", reason(flow.PrefixClosed)},
		{"leaks in clear on rekey", verdict(func(t *flow.Table, _ *selector.Flow, v flow.Verdict) flow.Verdict {
			if v.Reason == flow.NoSA && t.Len() > 1 {
				return clear
			}
			return v
		})},
		{"sends held packets in clear", verdict(func(_ *flow.Table, _ *selector.Flow, v flow.Verdict) flow.Verdict {
			if v.Action == flow.Queue {
				return clear
			}
			return v
		})},
		{"drops held packets", verdict(func(_ *flow.Table, _ *selector.Flow, v flow.Verdict) flow.Verdict {
			if v.Action == flow.Queue {
				return flow.Verdict{Action: flow.Drop, Reason: flow.NoSA}
			}
			return v
		})},
		{"keeps held packets without bound", func(r *rules) { r.maxHeld = 1 << 30 }},
		{"keeps sending on a retired SA", changes(without[dataplane.RetireSA])},
		{"sends on a pair before it is used", respecUse()},
		{"sends what the selectors exclude", respec(func(s *flow.Spec) {
			for _, set := range []*selector.Set{&s.Local, &s.Remote} {
				*set = slices.Clone(*set)
				for i := range *set {
					(*set)[i].Proto, (*set)[i].Ports = 0, selector.AnyPort
				}
			}
		})},
		{"protects nothing", changes(without[dataplane.SetPrefix])},
	}
}

func respecUse() func(*rules) {
	return changes(func(c []dataplane.Change) []dataplane.Change {
		for i := range c {
			if a, ok := c[i].(dataplane.AddSA); ok {
				a.Use = true
				c[i] = a
			}
		}
		return c
	})
}

// opening spoils how ESP packets are opened: edit sees the spec of the pair that the SPI names.
func opening(edit func(s *flow.Spec, w Wired)) func(*rules) {
	return func(r *rules) {
		specs := remember(r)
		r.open = func(t *flow.Table, w Wired) ([]byte, *flow.Pair, flow.Reason) {
			p := t.BySPI(spiOf(w.Data))
			s, ok := specs(spiOf(w.Data))
			if p == nil || !ok {
				return open(t, w)
			}
			edit(&s, w)
			return reopen(p, s, w)
		}
	}
}

// reopen opens with a new pair of that spec but counts on p; what has no memory of sequence numbers.
func reopen(p *flow.Pair, s flow.Spec, w Wired) ([]byte, *flow.Pair, flow.Reason) {
	q, err := flow.NewPair(s)
	if err != nil {
		return nil, p, flow.Malformed
	}
	pkt, r := q.OpenPacket(nil, w.Data, outer(w))
	return pkt, p, r
}

// remember keeps the specs of all pairs by SPI.
func remember(r *rules) func(spi uint32) (flow.Spec, bool) {
	var (
		mu    sync.Mutex
		specs = make(map[uint32]flow.Spec)
		right = r.apply
	)
	r.apply = func(t *flow.Table, c []dataplane.Change) (*flow.Table, error) {
		mu.Lock()
		for _, c := range c {
			if a, ok := c.(dataplane.AddSA); ok {
				specs[a.Spec.SPIIn] = a.Spec
			}
		}
		mu.Unlock()
		return right(t, c)
	}
	return func(spi uint32) (flow.Spec, bool) {
		mu.Lock()
		defer mu.Unlock()
		s, ok := specs[spi]
		if !ok && spi == 0 { // any
			for _, s = range specs {
				return s, true
			}
		}
		return s, ok
	}
}

// weak are planes into which packets come that should not.
func weak() []fault {
	accept := func(st flow.State) func(*rules) {
		return func(r *rules) {
			right := r.inClear
			r.inClear = func(t *flow.Table, f *selector.Flow) flow.Verdict {
				if s, _, _ := t.State(f.Remote); s == st {
					return flow.Verdict{Action: flow.Accept}
				}
				return right(t, f)
			}
		}
	}
	return []fault{
		{"skips the selector check", func(r *rules) {
			right := r.open
			r.open = func(t *flow.Table, w Wired) ([]byte, *flow.Pair, flow.Reason) { return uncheckedOpen(t, w, right) }
		}},
		{"checks outer addresses in tunnel mode", opening(func(s *flow.Spec, _ Wired) { s.Remote = selector.Any() })},
		{"accepts replays", opening(func(*flow.Spec, Wired) {})},
		{"accepts another SPI", func(r *rules) {
			specs := remember(r)
			r.open = func(t *flow.Table, w Wired) ([]byte, *flow.Pair, flow.Reason) {
				s, ok := specs(0)
				if p := t.Pair(s.ID); ok && p != nil && t.BySPI(spiOf(w.Data)) == nil {
					s.SPIIn = spiOf(w.Data)
					return reopen(p, s, w)
				}
				return open(t, w)
			}
		}},
		{"delivers clear packets in Protect", accept(flow.Protect)},
		{"delivers clear packets in Hold", accept(flow.Hold)},
		{"delivers clear packets in Closed", accept(flow.Closed)},
		{"unwraps tunnels in transport mode", func(r *rules) {
			r.open = func(t *flow.Table, w Wired) ([]byte, *flow.Pair, flow.Reason) { return unwrap(t, w) }
		}},
		{"moves the window before authentication", func(r *rules) {
			highest := make(map[flow.PairID]uint32)
			r.open = func(t *flow.Table, w Wired) ([]byte, *flow.Pair, flow.Reason) {
				if p := t.BySPI(spiOf(w.Data)); p != nil && len(w.Data) >= esp.HeaderLen {
					seq := spiOf(w.Data[4:])
					if seq+esp.DefaultWindow <= highest[p.ID] {
						return nil, p, flow.Replayed
					}
					highest[p.ID] = max(highest[p.ID], seq)
				}
				return open(t, w)
			}
		}},
		{"follows packets without looking whether they are fresh", func(r *rules) {
			r.moved = func(p *flow.Pair, w Wired, _ flow.Reason) bool { return p.PeerMoves && w.From != p.OuterRemote }
		}},
		{"follows peers that may not move", func(r *rules) {
			r.moved = func(p *flow.Pair, w Wired, _ flow.Reason) bool { return w.From != p.OuterRemote }
		}},
		{"ignores hard limits", respec(func(s *flow.Spec) { s.Hard = protect.Limits{} })},
		{"ignores the hard limit inbound", func(r *rules) {
			r.countIn = func(p *flow.Pair, n uint64, now int64) flow.Reached {
				if p.Usage().PacketsIn >= 3 {
					return 0
				}
				return p.CountIn(1, n, now)
			}
		}},
		{"drops congestion marks", func(r *rules) {
			r.open = func(t *flow.Table, w Wired) ([]byte, *flow.Pair, flow.Reason) { w.TOS = 0; return open(t, w) }
		}},
	}
}

// uncheckedOpen delivers what opened but is not in the selectors.
func uncheckedOpen(t *flow.Table, w Wired, right func(*flow.Table, Wired) ([]byte, *flow.Pair, flow.Reason)) ([]byte, *flow.Pair, flow.Reason) {
	p := t.BySPI(spiOf(w.Data))
	if p == nil || p.Mode != protect.Transport {
		return right(t, w)
	}
	dst := make([]byte, p.HeadRoom()+len(w.Data))
	n, next, err := p.Opener().Open(dst[p.HeadRoom():], w.Data)
	if err != nil {
		return nil, p, flow.OpenReason(err)
	}
	flow.PutHeader(dst, w.From.Addr(), w.To.Addr(), next, 0, 0, n)
	return dst[:p.HeadRoom()+n], p, flow.NoReason
}

// unwrap takes an inner packet for a packet to deliver, whatever the mode.
func unwrap(t *flow.Table, w Wired) ([]byte, *flow.Pair, flow.Reason) {
	p := t.BySPI(spiOf(w.Data))
	if p == nil {
		return nil, nil, flow.UnknownSPI
	}
	dst := make([]byte, p.HeadRoom()+len(w.Data))
	n, next, err := p.Opener().Open(dst[p.HeadRoom():], w.Data)
	if err != nil {
		return nil, p, flow.OpenReason(err)
	}
	if next == esp.NextIPv4 || next == esp.NextIPv6 {
		return dst[p.HeadRoom():][:n], p, flow.NoReason
	}
	pkt, _, _, r := p.Deliver(dst[:p.HeadRoom()+n], next, outer(w))
	return pkt, p, r
}

// careless are planes that break the rest of the contract.
func careless() []fault {
	return []fault{
		{"keeps nothing for an SA that will send soon", verdict(func(t *flow.Table, f *selector.Flow, v flow.Verdict) flow.Verdict {
			if s, _, _ := t.State(f.Remote); v.Action == flow.Queue && s == flow.Upgrade {
				return flow.Verdict{Action: flow.Drop, Reason: flow.NoSA}
			}
			return v
		})},
		{"returns prefixes first, whatever follows", changes(func(c []dataplane.Change) []dataplane.Change {
			slices.SortStableFunc(c, func(a, b dataplane.Change) int { return cmp.Compare(gives(a), gives(b)) })
			return c
		})},
		{"applies changes in another order", changes(func(c []dataplane.Change) []dataplane.Change {
			slices.SortStableFunc(c, func(a, b dataplane.Change) int { return rank(a) - rank(b) })
			return c
		})},
		{"goes on after a change that failed", func(r *rules) {
			r.apply = func(t *flow.Table, c []dataplane.Change) (next *flow.Table, err error) {
				for i := range c {
					var e error
					if t, e = dataplane.Next(t, c[i:i+1]); e != nil {
						err = e
					}
				}
				return t, err
			}
		}},
		{"says nothing of a change that failed", func(r *rules) {
			r.apply = func(t *flow.Table, c []dataplane.Change) (*flow.Table, error) {
				t, _ = dataplane.Next(t, c)
				return t, nil
			}
		}},
		{"takes back what came before a change that failed", func(r *rules) {
			r.apply = func(t *flow.Table, c []dataplane.Change) (*flow.Table, error) {
				n, err := dataplane.Next(t, c)
				if err != nil {
					return t, err
				}
				return n, nil
			}
		}},
		{"ignores the use of a new pair", changes(without[dataplane.UseSA])},
		{"never removes", changes(without[dataplane.RemoveSA])},
		{"ignores moves", changes(without[dataplane.MoveSA])},
		{"stops receiving on a retired SA", changes(func(c []dataplane.Change) []dataplane.Change {
			for i := range c {
				if r, ok := c[i].(dataplane.RetireSA); ok {
					c[i] = dataplane.RemoveSA(r)
				}
			}
			return c
		})},
		{"does not repair checksums", respec(func(s *flow.Spec) { s.SawLocal, s.SawRemote = netip.Addr{}, netip.Addr{} })},
		{"never says that a pair carries", func(r *rules) {
			r.countIn = func(p *flow.Pair, n uint64, now int64) flow.Reached { return p.CountIn(1, n, now) &^ flow.First }
		}},
		{"says with every packet that a pair carries", func(r *rules) {
			r.countIn = func(p *flow.Pair, n uint64, now int64) flow.Reached { return p.CountIn(1, n, now) | flow.First }
		}},
		{"keeps limits to itself", func(r *rules) {
			r.countOut = func(p *flow.Pair, n uint64, now int64) flow.Reached { p.CountOut(1, n, now); return 0 }
		}},
		{"reports every packet", func(r *rules) { r.storm = true }},
		{"leaves the marker on IKE messages", func(r *rules) {
			r.message = func(b []byte) []byte { return append(make([]byte, 4), b...) }
		}},
		{"follows a peer to the other IP version", func(r *rules) {
			r.moved = func(p *flow.Pair, w Wired, _ flow.Reason) bool {
				return p.PeerMoves && w.From != p.OuterRemote && p.Opener().Newest()
			}
		}},
		{"never follows a peer", func(r *rules) { r.moved = func(*flow.Pair, Wired, flow.Reason) bool { return false } }},
		{"refuses clear packets in Upgrade", func(r *rules) {
			right := r.inClear
			r.inClear = func(t *flow.Table, f *selector.Flow) flow.Verdict {
				if s, _, _ := t.State(f.Remote); s == flow.Upgrade {
					return flow.Verdict{Action: flow.Drop, Reason: flow.ClearRefused}
				}
				return right(t, f)
			}
		}},
	}
}

// rank puts removals last, as somebody might who wants to lose no packet.
func rank(c dataplane.Change) int {
	switch c.(type) {
	case dataplane.RemoveSA, dataplane.RetireSA:
		return 1
	}
	return 0
}
