package flow

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"github.com/btns-ipsec/btns/protect"
	"github.com/btns-ipsec/btns/selector"
)

func flowTo(dst netip.Addr, dport uint16) selector.Flow {
	return selector.Flow{Proto: selector.UDP, Local: here, Remote: dst, LocalPort: 1000, RemotePort: dport}
}

func host(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// Every state with and without a pair, both ways (RFC 4301 §5.1, §5.2).
func TestVerdicts(t *testing.T) {
	cases := []struct {
		state   State
		with    Action
		without Action
		why     Reason
		in      Action
	}{
		{Clear, Pass, Pass, NoReason, Accept},
		{Upgrade, Seal, Queue, NoReason, Accept},
		{Protect, Seal, Drop, NoSA, Drop},
		{Hold, Seal, Queue, NoReason, Drop},
		{Closed, Drop, Drop, PrefixClosed, Drop},
	}
	f := flowTo(peer, 53)
	for _, c := range cases {
		bare := NewTable().SetPrefix(host(peer), c.state)
		full := bare.Add(pair(t, spec(1, here, peer)), true)
		if v := bare.Out(&f); v.Action != c.without || v.Action == Drop && v.Reason != c.why {
			t.Errorf("state %d without a pair: %+v", c.state, v)
		}
		if v := full.Out(&f); v.Action != c.with || (v.Pair != nil) != (v.Action == Seal) {
			t.Errorf("state %d with a pair: %+v", c.state, v)
		}
		for _, tab := range []*Table{bare, full} {
			if v := tab.InClear(&f); v.Action != c.in || v.Action == Drop && v.Reason != ClearRefused {
				t.Errorf("state %d inbound: %+v", c.state, v)
			}
		}
	}
}

// Neighbour discovery passes, or no SA could ever be made; what only looks like it in IPv4, and redirects, do not.
func TestNeighbourDiscovery(t *testing.T) {
	six := netip.MustParseAddr("2001:db8::2")
	tab := NewTable().SetPrefix(host(six), Protect).SetPrefix(host(peer), Protect)
	for _, c := range []struct {
		remote netip.Addr
		proto  uint8
		typ    uint16
		hidden bool
		pass   bool
	}{
		{six, selector.ICMPv6, 135, false, true},
		{six, selector.ICMPv6, 136, false, true},
		{six, selector.ICMPv6, 137, false, false},
		{six, selector.ICMPv6, 128, false, false},
		{six, selector.ICMPv6, 135, true, false},
		{peer, selector.ICMPv6, 135, false, false},
		{six, selector.UDP, 135, false, false},
	} {
		f := selector.Flow{Proto: c.proto, Remote: c.remote, Local: c.remote, LocalPort: c.typ << 8, RemotePort: c.typ << 8, NoPorts: c.hidden}
		if out, in := tab.Out(&f).Action == Pass, tab.InClear(&f).Action == Accept; out != c.pass || in != c.pass {
			t.Errorf("%+v: out %v, in %v", c, out, in)
		}
	}
}

// A state and a pair may stand at different prefixes; the longest of each counts.
func TestPrefixes(t *testing.T) {
	network := netip.MustParsePrefix("10.0.0.0/8")
	wide := spec(1, here, peer)
	wide.Mode, wide.Remote = protect.Tunnel, selector.Set{selector.Prefix(network)}
	narrow := wide
	narrow.ID, narrow.SPIIn, narrow.Remote = 2, 0x9999, selector.Set{selector.Prefix(netip.MustParsePrefix("10.1.0.0/16"))}
	port := narrow
	port.ID, port.SPIIn = 3, 0x9998
	port.Remote = selector.Set{{Proto: selector.UDP, Ports: selector.PortRange{From: 53, To: 53}, From: peerAt("10.1.0.5"), To: peerAt("10.1.0.9")}}
	all := netip.MustParsePrefix("0.0.0.0/0")
	tab := NewTable().Add(pair(t, wide), true).Add(pair(t, narrow), true).Add(pair(t, port), true).
		SetPrefix(all, Closed).SetPrefix(network, Protect).SetPrefix(netip.MustParsePrefix("10.1.2.0/24"), Hold)
	for _, c := range []struct {
		to     string
		port   uint16
		action Action
		id     PairID
	}{
		{"10.9.9.9", 1, Seal, 1},
		{"10.1.9.9", 1, Seal, 2},
		{"10.1.0.6", 53, Seal, 3},
		{"10.1.0.6", 54, Seal, 2},
		{"10.1.0.4", 53, Seal, 2},
		{"10.1.2.3", 1, Seal, 2},
		{"11.0.0.1", 1, Drop, 0},
	} {
		f := flowTo(peerAt(c.to), c.port)
		if v := tab.Out(&f); v.Action != c.action || c.id != 0 && v.Pair.ID != c.id {
			t.Errorf("%s port %d: %+v", c.to, c.port, v)
		}
	}
	if s, p, ok := tab.State(peerAt("10.1.2.3")); s != Hold || p.Bits() != 24 || !ok {
		t.Errorf("state %v of %v", s, p)
	}
	if s, p, _ := tab.State(peerAt("10.1.0.6")); s != Protect || p != network {
		t.Errorf("state %v of %v", s, p)
	}
	n := 0
	tab.Prefixes(func(netip.Prefix, State) bool { n++; return true })
	if n != 3 {
		t.Errorf("%d prefixes", n)
	}
	tab = tab.SetPrefix(all, Clear).SetPrefix(network, Clear).SetPrefix(netip.MustParsePrefix("10.1.2.0/24"), Clear).Remove(1).Remove(2).Remove(3)
	if n := tab.hosts[0].size + tab.hosts[1].size + tab.nets.Size(); n != 0 || tab.Len() != 0 {
		t.Errorf("%d prefixes and %d pairs remain", n, tab.Len())
	}
}

func peerAt(s string) netip.Addr { return netip.MustParseAddr(s) }

// A table that somebody works from does not change under him.
func TestImmutable(t *testing.T) {
	a := NewTable().SetPrefix(host(peer), Protect).Add(pair(t, spec(1, here, peer)), true)
	f := flowTo(peer, 53)
	next := spec(2, here, peer)
	b := a.Add(pair(t, next), true)
	c := b.Move(2, netip.AddrPortFrom(peer, 9)).Retire(2).Remove(1).SetPrefix(host(peer), Closed)
	if v := a.Out(&f); v.Pair == nil || v.Pair.ID != 1 || a.Pair(2) != nil || !a.Sending(1) {
		t.Errorf("the first table changed: %+v", v)
	}
	if v := b.Out(&f); v.Pair == nil || v.Pair.ID != 2 || v.Pair.OuterRemote.Port() != 4500 || b.Sending(1) || !b.Sending(2) || b.Len() != 2 {
		t.Errorf("the second table changed: %+v", v)
	}
	if v := c.Out(&f); v.Reason != PrefixClosed || c.Len() != 1 || c.Pair(2).OuterRemote.Port() != 9 || c.BySPI(next.SPIIn) != c.Pair(2) {
		t.Errorf("the third table: %+v", v)
	}
	if c.Pair(2).Sealer() != b.Pair(2).Sealer() {
		t.Error("a moved pair lost its state")
	}
}

func TestBadChanges(t *testing.T) {
	b := NewTable().Build()
	p := pair(t, spec(1, here, peer))
	if err := b.Add(p, true); err != nil {
		t.Fatal(err)
	}
	sameSPI := spec(2, here, peer)
	sameSPI.SPIIn = p.SPIIn
	for name, err := range map[string]error{
		"ID twice":      b.Add(p, true),
		"SPI twice":     b.Add(pair(t, sameSPI), true),
		"use":           b.Use(9),
		"retire":        b.Retire(9),
		"move":          b.Move(9, netip.AddrPortFrom(peer, 1)),
		"family":        b.Move(1, netip.MustParseAddrPort("[2001:db8::1]:4500")),
		"prefix bits":   b.SetPrefix(netip.PrefixFrom(peer, 8), Protect),
		"prefix":        b.SetPrefix(netip.Prefix{}, Protect),
		"mapped prefix": b.SetPrefix(netip.MustParsePrefix("::ffff:0:0/96"), Protect),
		"state":         b.SetPrefix(host(peer), Closed+1),
	} {
		if !errors.Is(err, ErrSpec) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, edit := range map[string]func(*Spec){
		"mode": func(s *Spec) { s.Mode = 0 }, "selectors": func(s *Spec) { s.Remote = nil }, "outer": func(s *Spec) { s.OuterLocal = netip.AddrPort{} },
		"keys": func(s *Spec) { s.KeysIn = protect.Keys{} }, "SPI": func(s *Spec) { s.SPIOut = 3 }, "window": func(s *Spec) { s.Window = 1 },
		"selector": func(s *Spec) { s.Local = selector.Set{{}} }, "suite": func(s *Spec) { s.Suite = protect.Suite{} },
	} {
		s := spec(5, here, peer)
		edit(&s)
		if _, err := NewPair(s); !errors.Is(err, ErrSpec) {
			t.Errorf("spec with bad %s: %v", name, err)
		}
	}
}

// many is a table of n hosts with a pair each.
func many(tb testing.TB, n int) *Table {
	tb.Helper()
	b := NewTable().Build()
	for i := range n {
		a := numbered(i)
		if err := b.Add(pair(tb, spec(PairID(i), here, a)), true); err != nil {
			tb.Fatal(err)
		}
		if err := b.SetPrefix(host(a), Protect); err != nil {
			tb.Fatal(err)
		}
	}
	return b.Table()
}

func numbered(i int) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], 10<<24+uint32(i)*7)
	return netip.AddrFrom4(b)
}

// Many pairs in one batch are all found, and the builder goes on after Table without touching it.
func TestMany(t *testing.T) {
	const n = 3000
	b := NewTable().Build()
	first := (*Table)(nil)
	for i := range n {
		a := numbered(i)
		if err := b.Add(pair(t, spec(PairID(i), here, a)), true); err != nil {
			t.Fatal(err)
		}
		if err := b.SetPrefix(host(a), Protect); err != nil {
			t.Fatal(err)
		}
		if i == n/2 {
			first = b.Table()
		}
	}
	last := b.Table()
	for i := range n {
		f := flowTo(numbered(i), 1)
		if v := last.Out(&f); v.Action != Seal || v.Pair.ID != PairID(i) || last.BySPI(0x1000+uint32(i)) != v.Pair {
			t.Fatalf("pair %d: %+v", i, v)
		}
		if v := first.Out(&f); (v.Action == Seal) != (i <= n/2) {
			t.Fatalf("pair %d in the first table: %+v", i, v)
		}
	}
}

// The verdict on a packet costs no allocation (performance.md §6).
func TestAllocations(t *testing.T) {
	tab := many(t, 1000)
	back := NewTable().Add(pair(t, back(spec(500, here, numbered(500)))), true)
	pkt := udp(here, numbered(500), 1000, 53, 1000)
	sealed, opened := make([]byte, 0, 2000), make([]byte, 0, 2000)
	one := func() {
		out, v := tab.Protect(sealed, pkt)
		if v.Action != Seal {
			t.Fatalf("%+v", v)
		}
		v.Pair.CountOut(1, 1000, 1)
		if _, _, r := back.Unprotect(opened, out, numbered(500), here); r != NoReason {
			t.Fatal(r)
		}
	}
	one()
	if n := testing.AllocsPerRun(100, one); n != 0 {
		t.Errorf("%v allocations per packet", n)
	}
}

// Limits are reported once each, and end a pair (RFC 4301 §4.4.2.1).
func TestLimits(t *testing.T) {
	s := spec(1, here, peer)
	s.Soft, s.Hard = protect.Limits{Bytes: 100}, protect.Limits{Packets: 5}
	p := pair(t, s)
	want := []Reached{0, SoftLimit, 0, 0, HardLimit, 0}
	for i, w := range want {
		if r := p.CountOut(1, 60, int64(i)); r != w {
			t.Errorf("packet %d: %v, not %v", i, r, w)
		}
		if p.Spent() != (i >= 4) {
			t.Errorf("packet %d: spent %v", i, p.Spent())
		}
	}
	if r := p.CountIn(2, 9, 7); r != First {
		t.Errorf("first packets in: %v", r)
	}
	if r := p.CountIn(1, 9, 7); r != 0 {
		t.Errorf("later packets in: %v", r)
	}
	if p.Spend() != 0 {
		t.Error("spent twice")
	}
	p.Drop()
	if u := p.Usage(); u != (Usage{PacketsIn: 3, PacketsOut: 6, BytesIn: 18, BytesOut: 360, Drops: 1, LastIn: 7, LastOut: 5}) {
		t.Errorf("usage %+v", u)
	}
	f := flowTo(peer, 1)
	if v := NewTable().Add(p, true).SetPrefix(host(peer), Protect).Out(&f); v.Action != Drop || v.Reason != SpentSA {
		t.Errorf("spent pair: %+v", v)
	}
}

func BenchmarkTable(b *testing.B) {
	for _, n := range []int{1000, 10000, 100000} {
		tab := many(b, n)
		b.Run(fmt.Sprintf("out/%d", n), func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				f := flowTo(numbered(i*7919%n), 1)
				_ = tab.Out(&f)
			}
		})
		b.Run(fmt.Sprintf("spi/%d", n), func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				_ = tab.BySPI(0x1000 + uint32(i*7919%n))
			}
		})
		p := pair(b, spec(PairID(n), here, peer))
		b.Run(fmt.Sprintf("change/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_ = tab.Add(p, true).SetPrefix(host(peer), Protect)
			}
		})
	}
}
