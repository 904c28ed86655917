package flow

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"pgregory.net/rapid"

	"github.com/btns-ipsec/btns/protect"
	"github.com/btns-ipsec/btns/selector"
)

func sel(tb testing.TB, texts ...string) (s selector.Set) {
	tb.Helper()
	for _, text := range texts {
		x, err := selector.Parse(text)
		if err != nil {
			tb.Fatal(err)
		}
		s = append(s, x)
	}
	return s
}

// webRules are: port 8080 of either side in clear, UDP 9999 not at all, BGP protected or not at all, the rest if it can be.
func webRules(tb testing.TB) []Rule {
	return []Rule{
		{Local: selector.Any(), Remote: sel(tb, "any4 tcp/8080"), Action: Pass},
		{Local: sel(tb, "any4 tcp/8080"), Remote: selector.Any(), Action: Pass},
		{Local: selector.Any(), Remote: sel(tb, "any4 udp/9999"), Action: Drop},
		{Local: sel(tb, "any4 udp/9999"), Remote: selector.Any(), Action: Drop},
		{Local: selector.Any(), Remote: sel(tb, "any4 tcp/179"), Action: Seal, MustOut: true, MustIn: true},
		{Local: selector.Any(), Remote: selector.Any(), Action: Seal},
	}
}

// Every rule in every state, both ways (RFC 4301 §5.1, §5.2, BTNS-CORE-23).
func TestRules(t *testing.T) {
	tcp := func(l, r uint16) selector.Flow {
		return selector.Flow{Proto: selector.TCP, Local: here, Remote: peer, LocalPort: l, RemotePort: r}
	}
	udp := func(l, r uint16) selector.Flow {
		return selector.Flow{Proto: selector.UDP, Local: here, Remote: peer, LocalPort: l, RemotePort: r}
	}
	clearText := []Action{Pass, Accept}
	nothing := []Action{Drop, Drop}
	for _, c := range []struct {
		name   string
		f      selector.Flow
		opened Reason
		want   map[State][]Action // out, in clear
		bare   map[State][]Action // without a pair, where that differs
	}{
		{"bypassed", tcp(40000, 8080), NoReason, map[State][]Action{
			Clear: clearText, Upgrade: clearText, Protect: clearText, Hold: clearText, Closed: clearText,
		}, nil},
		{"bypassed, the other way", tcp(8080, 40000), NoReason, map[State][]Action{
			Clear: clearText, Upgrade: clearText, Protect: clearText, Hold: clearText, Closed: clearText,
		}, nil},
		{"discarded", udp(40000, 9999), Discarded, map[State][]Action{
			Clear: nothing, Upgrade: nothing, Protect: nothing, Hold: nothing, Closed: nothing,
		}, nil},
		{"required", tcp(40000, 179), NoReason, map[State][]Action{
			Clear: {Seal, Drop}, Upgrade: {Seal, Drop}, Protect: {Seal, Drop}, Hold: {Seal, Drop}, Closed: nothing,
		}, map[State][]Action{Clear: {Queue, Drop}, Upgrade: {Queue, Drop}, Protect: nothing, Hold: {Queue, Drop}}},
		{"preferred", tcp(40000, 22), NoReason, map[State][]Action{
			Clear: clearText, Upgrade: {Seal, Accept}, Protect: {Seal, Drop}, Hold: {Seal, Drop}, Closed: nothing,
		}, map[State][]Action{Upgrade: {Queue, Accept}, Protect: nothing, Hold: {Queue, Drop}}},
	} {
		for state := Clear; state <= Closed; state++ {
			bare := NewTable().SetRules(webRules(t)).SetPrefix(host(peer), state)
			full := bare.Add(pair(t, spec(1, here, peer)), true)
			for _, tab := range []*Table{full, bare} {
				want := c.want[state]
				if w, ok := c.bare[state]; ok && tab == bare {
					want = w
				}
				out, in := tab.Out(&c.f), tab.InClear(&c.f)
				if out.Action != want[0] || in.Action != want[1] {
					t.Errorf("%s in state %d, %d pairs: out %+v, in %+v", c.name, state, tab.Len(), out, in)
				}
				if c.opened == Discarded && (out.Reason != Discarded || in.Reason != Discarded) {
					t.Errorf("%s in state %d: dropped for %v and %v", c.name, state, out.Reason, in.Reason)
				}
				if r := tab.Opened(&c.f); r != c.opened {
					t.Errorf("%s out of an SA: %v", c.name, r)
				}
			}
		}
	}
	fragment := tcp(0, 0)
	fragment.NoPorts = true
	tab := NewTable().SetRules(webRules(t)).SetPrefix(host(peer), Protect)
	if v := tab.Out(&fragment); v.Action != Drop {
		t.Errorf("a fragment without ports passes for port 8080: %+v", v)
	}
	elsewhere := tcp(40000, 22)
	elsewhere.Remote, elsewhere.Local = peerAt("2001:db8::1"), peerAt("2001:db8::2")
	if v := NewTable().SetRules(webRules(t)[:3]).Out(&elsewhere); v.Reason != Discarded {
		t.Errorf("no rule is about it: %+v", v)
	}
}

// What a rule discards is not delivered out of ESP either, and is not sealed (RFC 4301 §5.2, BTNS-CORE-23).
func TestDiscardedInside(t *testing.T) {
	out := NewTable().Add(pair(t, spec(1, here, peer)), true).SetPrefix(host(peer), Protect)
	in := NewTable().Add(pair(t, back(spec(1, here, peer))), true).SetRules(webRules(t))
	for port, want := range map[uint16]Reason{9998: NoReason, 9999: Discarded} {
		sealed, v := out.Protect(nil, udp(here, peer, 1000, port, 10))
		if v.Action != Seal {
			t.Fatal(v)
		}
		if pkt, p, r := in.Unprotect(nil, sealed, peer, here); r != want || p == nil || (pkt != nil) != (want == NoReason) {
			t.Errorf("port %d: %v", port, r)
		}
		if _, v := out.SetRules(webRules(t)).Protect(nil, udp(here, peer, 1000, port, 10)); v.Reason != want {
			t.Errorf("port %d outbound: %+v", port, v)
		}
	}
}

// The list at a prefix says what a search through all rules would say.
func TestRulesByPrefix(t *testing.T) {
	at := func(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(n >> 2), byte(n & 3 << 6)}) }
	one := rapid.Custom(func(t *rapid.T) selector.Selector {
		a, b := rapid.IntRange(0, 15).Draw(t, "a"), rapid.IntRange(0, 15).Draw(t, "b")
		s := selector.Selector{From: at(min(a, b)), To: at(max(a, b)), Ports: selector.AnyPort, Proto: rapid.SampledFrom([]uint8{0, 0, 6, 17, 1}).Draw(t, "proto")}
		switch rapid.IntRange(0, 3).Draw(t, "kind") {
		case 0:
			s.Ports = selector.PortRange{From: 22, To: uint16(22 + rapid.IntRange(0, 2).Draw(t, "n"))}
		case 1:
			s.From, s.To = selector.Any4().From, selector.Any4().To
		case 2:
			s.Ports = selector.Opaque
		}
		return s
	})
	sets := rapid.SliceOfN(one, 1, 3)
	rapid.Check(t, func(t *rapid.T) {
		var rules []Rule
		for range rapid.IntRange(1, 8).Draw(t, "rules") {
			r := Rule{Local: sets.Draw(t, "l"), Remote: sets.Draw(t, "r"), Action: rapid.SampledFrom([]Action{Pass, Drop, Seal}).Draw(t, "action")}
			if r.Action == Seal {
				r.MustOut, r.MustIn = rapid.Bool().Draw(t, "out"), rapid.Bool().Draw(t, "in")
			}
			rules = append(rules, r)
		}
		tab := NewTable().SetRules(rules)
		if len(tab.Rules()) != len(rules) {
			t.Fatal("rules refused")
		}
		for range 40 {
			f := selector.Flow{
				Proto: rapid.SampledFrom([]uint8{6, 17, 1, 50}).Draw(t, "p"), NoPorts: rapid.IntRange(0, 4).Draw(t, "hidden") == 0,
				LocalPort: uint16(rapid.IntRange(21, 25).Draw(t, "lp")), RemotePort: uint16(rapid.IntRange(21, 25).Draw(t, "rp")),
				Local: at(rapid.IntRange(0, 16).Draw(t, "la")), Remote: at(rapid.IntRange(0, 16).Draw(t, "ra")),
			}
			want := &discard
			for i := range rules {
				if selector.Match(rules[i].Local, rules[i].Remote, f) {
					want = &rules[i]
					break
				}
			}
			if got := tab.rule(&f); !got.same(want) {
				t.Fatalf("%+v: %+v, not %+v", f, got, want)
			}
		}
	})
}

func TestBadRules(t *testing.T) {
	any := selector.Any()
	for name, r := range map[string]Rule{
		"no remote":            {Local: any, Action: Pass},
		"no local":             {Remote: any, Action: Pass},
		"no action":            {Local: any, Remote: any},
		"an action of packets": {Local: any, Remote: any, Action: Queue},
		"a bypass that must":   {Local: any, Remote: any, Action: Pass, MustOut: true},
		"no selector":          {Local: any, Remote: selector.Set{{}}, Action: Pass},
	} {
		b := NewTable().SetRules(webRules(t)).Build()
		if err := b.SetRules([]Rule{{Local: any, Remote: any, Action: Drop}, r}); !errors.Is(err, ErrSpec) || len(b.Table().Rules()) != 6 {
			t.Errorf("%s: %v, and then %d rules", name, err, len(b.Table().Rules()))
		}
	}
	if tab := NewTable().SetRules(webRules(t)).SetRules(nil); tab.Rules() != nil {
		t.Error("rules cannot be taken away")
	}
}

// A packet that no exception is about costs one look-up more, and none of it allocates (performance.md §5).
func TestRulesAllocate(t *testing.T) {
	tab := many(t, 100).SetRules(webRules(t))
	f := flowTo(numbered(50), 9998)
	if n := testing.AllocsPerRun(100, func() {
		if tab.Out(&f).Action != Seal || tab.InClear(&f).Action != Drop || tab.Opened(&f) != NoReason {
			t.Fatal("verdict")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// The outer header has the marks of the SPD entry (RFC 4301 §4.4.1.2).
func TestOuterTOS(t *testing.T) {
	s := spec(1, here, peer)
	s.Marks = protect.Marks{SetDSCP: true, DSCP: 46}
	if tos := pair(t, s).OuterTOS(1); tos != 46<<2|1 {
		t.Errorf("%#x", tos)
	}
}

func BenchmarkRules(b *testing.B) {
	tab := many(b, 10000)
	for _, n := range []int{0, 6, 1000} {
		rules := webRules(b)
		for i := 6; i < n; i++ {
			rules = append([]Rule{{Local: selector.Any(), Remote: selector.Set{selector.Host(numbered(i * 5))}, Action: Seal}}, rules...)
		}
		with := tab.SetRules(rules[:min(n, len(rules))])
		b.Run(fmt.Sprintf("out/%d", n), func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				f := flowTo(numbered(i*7919%10000), 1)
				f.Proto = selector.ICMP
				_ = with.Out(&f)
			}
		})
	}
}
