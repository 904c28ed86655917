package selector

import (
	"net/netip"
	"testing"

	"pgregory.net/rapid"
)

// A small world, so that overlaps are the rule.
var (
	someAddr = rapid.Custom(func(t *rapid.T) netip.Addr {
		b := byte(rapid.IntRange(0, 7).Draw(t, "addr"))
		if rapid.Bool().Draw(t, "v6") {
			return netip.AddrFrom16([16]byte{0xfd, 15: b})
		}
		return netip.AddrFrom4([4]byte{10, 0, 0, b})
	})
	somePort  = rapid.SampledFrom([]uint16{0, 1, 21, 22, 23, 65534, 65535})
	someProto = rapid.SampledFrom([]uint8{TCP, UDP, 200})
	someSel   = rapid.Custom(func(t *rapid.T) Selector {
		s := Selector{Ports: AnyPort, Proto: rapid.SampledFrom([]uint8{0, TCP, UDP, 200}).Draw(t, "proto")}
		s.From, s.To = someAddr.Draw(t, "from"), someAddr.Draw(t, "to")
		if s.From.Is4() != s.To.Is4() {
			s.To = s.From
		}
		if s.To.Less(s.From) {
			s.From, s.To = s.To, s.From
		}
		switch rapid.IntRange(0, 3).Draw(t, "ports") {
		case 0:
			s.Ports = Opaque
		case 1:
			a, b := somePort.Draw(t, "p"), somePort.Draw(t, "q")
			s.Ports = PortRange{min(a, b), max(a, b)}
		}
		return s
	})
	someSet  = rapid.SliceOfN(someSel, 0, 4)
	someFlow = rapid.Custom(func(t *rapid.T) Flow {
		return Flow{
			Proto: someProto.Draw(t, "proto"), LocalPort: somePort.Draw(t, "port"), NoPorts: rapid.Bool().Draw(t, "hidden"),
			Local: someAddr.Draw(t, "addr"),
		}
	})
)

func TestAlgebraIsThatOfSets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := Set(someSet.Draw(t, "a")), Set(someSet.Draw(t, "b"))
		both, less, narrow := a.Intersect(b), a.Subtract(b), Narrow(a, b, rapid.Bool().Draw(t, "trigger"))
		exact := true
		for _, x := range a {
			exact = exact && x.Proto != 0
		}
		covers := a.Covers(b)
		for range 64 {
			f := someFlow.Draw(t, "f")
			inA, inB := a.ContainsLocal(f), b.ContainsLocal(f)
			if f.NoPorts && f.Proto != 0 && both.ContainsLocal(f) && !(inA && inB) {
				t.Fatalf("%v: hidden ports of %v and %v", f, a, b)
			}
			if got := both.ContainsLocal(f); got != (inA && inB) {
				t.Fatalf("%v in %v and %v: %v", f, a, b, both)
			}
			if got := narrow.ContainsLocal(f); got != (inA && inB) {
				t.Fatalf("%v in narrowed %v of %v: %v", f, a, b, narrow)
			}
			got := less.ContainsLocal(f)
			if got && (!inA || inB) || exact && !got && inA && !inB {
				t.Fatalf("%v in %v without %v: %v", f, a, b, less)
			}
			if covers && inB && !inA {
				t.Fatalf("%v does not cover %v: %v", a, b, f)
			}
		}
		if a.Overlaps(b) != (len(both) > 0) {
			t.Fatal("overlaps")
		}
		if less.Overlaps(b) {
			t.Fatalf("%v without %v is %v", a, b, less)
		}
		for _, s := range append(append(both, less...), narrow...) {
			if !s.Valid() {
				t.Fatalf("invalid %v", s)
			}
		}
		if !a.Covers(both) || !b.Covers(both) || !a.Covers(less) {
			t.Fatalf("%v, %v: %v, %v", a, b, both, less)
		}
	})
}
