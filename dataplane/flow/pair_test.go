package flow

import (
	"net/netip"
	"testing"

	"github.com/btns-ipsec/btns/protect"
	"github.com/btns-ipsec/btns/selector"
)

// A pair that is simply between two hosts keeps no selectors, and carries what the selectors say, also when its peer has
// moved.
func TestPairOfHosts(t *testing.T) {
	a, b, c := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.3")
	p := pair(t, spec(1, a, b))
	if p.special != nil {
		t.Fatal("selectors are kept")
	}
	moved := p.moved(netip.AddrPortFrom(c, 4501))
	local, remote := p.Selectors()
	for name, q := range map[string]*Pair{"as made": p, "another port": p.moved(netip.AddrPortFrom(b, 4501)), "another address": moved} {
		if l, r := q.Selectors(); !equal(l, local) || !equal(r, remote) || q.host() != b || !q.same(p) || q.keys()[0].Addr() != b {
			t.Errorf("%s: selectors %v and %v, host %v", name, l, r, q.host())
		}
		for _, l := range []netip.Addr{a, b, c} {
			for _, r := range []netip.Addr{a, b, c} {
				f := selector.Flow{Proto: selector.UDP, LocalPort: 1, RemotePort: 2, Local: l, Remote: r}
				if got, want := q.carries(&f), selector.Match(local, remote, f); got != want {
					t.Errorf("%s: carries %v: %v", name, f, got)
				}
				if got := q.takes(&f); r == b && got != (l == a) { // whose remote address the prefix has found
					t.Errorf("%s: takes %v: %v", name, f, got)
				}
			}
			if q.carriesLocal(l) != (l == a) || q.carriesRemote(l) != (l == b) {
				t.Errorf("%s: %v", name, l)
			}
		}
	}
	if other := pair(t, spec(2, a, c)); other.same(p) || moved.same(other) {
		t.Error("another host's pair is the same")
	}
}

// Whatever is not simply between two hosts keeps its selectors.
func TestPairOfMore(t *testing.T) {
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	for name, edit := range map[string]func(*Spec){
		"one protocol": func(s *Spec) { s.Remote[0].Proto = selector.TCP },
		"one port":     func(s *Spec) { s.Local[0].Ports = selector.PortRange{From: 22, To: 22} },
		"a network":    func(s *Spec) { s.Remote = selector.Set{selector.Prefix(netip.MustParsePrefix("192.0.2.0/30"))} },
		"two hosts":    func(s *Spec) { s.Remote = append(s.Remote, selector.Host(a)) },
		"another gate": func(s *Spec) {
			s.Mode, s.Remote = protect.Tunnel, selector.Set{selector.Host(netip.MustParseAddr("10.0.0.1"))}
		},
		"a NAT between":  func(s *Spec) { s.SawRemote = netip.MustParseAddr("10.0.0.1") },
		"another family": func(s *Spec) { s.Mode, s.Local, s.Remote = protect.Tunnel, selector.Any()[1:], selector.Any()[1:] },
	} {
		s := spec(1, a, b)
		edit(&s)
		p := pair(t, s)
		if l, r := p.Selectors(); p.special == nil || !equal(l, s.Local) || !equal(r, s.Remote) {
			t.Errorf("%s: selectors %v and %v", name, l, r)
		}
		if _, saw := p.Saw(); saw != s.SawRemote {
			t.Errorf("%s: saw %v", name, saw)
		}
	}
}

// Pairs of one table share what they have in common.
func TestTermsAreShared(t *testing.T) {
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("10.0.0.0")
	b4 := NewTable().Build()
	for n := range PairID(100) {
		b = b.Next()
		s := spec(n+1, a, b)
		s.Soft.Packets = uint64(n % 3)
		p := pair(t, s)
		if err := b4.Add(p, true); err != nil {
			t.Fatal(err)
		}
		if p.Soft != s.Soft || p.Mode != s.Mode || p.OuterLocal != s.OuterLocal {
			t.Fatalf("%+v", p.terms)
		}
	}
	seen := map[*terms]int{}
	b4.Table().Pairs(func(p *Pair) bool { seen[p.terms]++; return true })
	if len(seen) != 3 {
		t.Errorf("%d terms, want 3", len(seen))
	}
	for n := range uint64(100) { // more than are kept
		p := &Pair{terms: &terms{Soft: protect.Limits{Packets: n}}}
		if b4.t.terms = p.share(b4.t.terms); len(b4.t.terms) > 16 || b4.t.terms[0] != p.terms {
			t.Fatalf("%d terms are kept", len(b4.t.terms))
		}
	}
}
