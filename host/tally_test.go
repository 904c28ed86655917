package host

import (
	"slices"
	"testing"

	"github.com/btns-ipsec/btns/dataplane"
	"github.com/btns-ipsec/btns/policy"
	"github.com/btns-ipsec/btns/selector"
)

// talliedPolicy is one with an entry of each name, written on the line with its number.
func talliedPolicy(t *testing.T, entries ...[2]string) *policy.Policy {
	t.Helper()
	var spd []policy.Entry
	for _, e := range entries {
		spd = append(spd, policy.Entry{Name: e[0], Source: e[1], Action: policy.Bypass, Local: selector.Any(), Remote: selector.Set{selector.Any4()}})
	}
	p, err := policy.New(append(spd, policy.Rest(policy.Unknown{Fallback: policy.Prefer, Waiting: policy.Pass})...), []policy.PADEntry{policy.Anyone()})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// What leaves in clear is told by the entry of the SPD and the place where that is written; an entry that a new
// configuration has too goes on counting under its number, and none is given another's.
func TestClearByEntry(t *testing.T) {
	w := newWorld(t)
	b := w.box("b", addrB, func(c *Config) {
		c.Policy = talliedPolicy(t, [2]string{"web", "f:1"}, [2]string{"web", "f:9"}, [2]string{"mail", "f:12"})
	})
	numbers := func() (out []uint32) {
		for i := range b.h.policy.SPD() {
			out = append(out, b.h.tallies.of(&b.h.policy.SPD()[i]))
		}
		return out
	}
	first := numbers()
	if slices.Contains(first, 0) || len(slices.Compact(slices.Sorted(slices.Values(first)))) != len(first) {
		t.Fatalf("numbers %v", first)
	}
	b.step(ClearedRead{[]dataplane.Cleared{
		{Tally: first[3], Packets: 7, Bytes: 700}, {Tally: first[1], Packets: 2, Bytes: 90}, {Tally: first[2]}, {Tally: 99, Packets: 1, Bytes: 1},
	}})
	want := []ClearView{{"web", "f:9", 2, 90}, {"everything else", "", 7, 700}}
	if got := b.h.Status(w.now).ClearBy; !slices.Equal(got, want) {
		t.Errorf("%+v", got)
	}
	b.do(Reload{Policy: talliedPolicy(t, [2]string{"mail", "f:12"}, [2]string{"new", "f:1"}, [2]string{"web", "f:9"})})
	after := numbers()
	if after[0] != first[2] || after[2] != first[1] || after[3] != first[3] || slices.Contains(first, after[1]) {
		t.Errorf("numbers were %v and are %v", first, after)
	}
	if got := b.h.Status(w.now).ClearBy; !slices.Equal(got, want) {
		t.Errorf("after a reload: %+v", got)
	}
}
