package host

import (
	"github.com/btns-ipsec/btns/dataplane"
	"github.com/btns-ipsec/btns/policy"
)

// tallies give entries of the SPD the numbers under which a plane counts what leaves in clear by them. An entry that a new
// configuration has at the same place under the same name goes on counting.
type tallies struct {
	numbers map[tallied]uint32
	last    uint32
	read    []dataplane.Cleared // as the plane told last
}

// tallied is what tells an entry from others: several may have one name, and built-in ones have no place.
type tallied struct{ name, source string }

func (t *tallies) of(e *policy.Entry) uint32 {
	key := tallied{e.Name, e.Source}
	n, ok := t.numbers[key]
	if !ok {
		if t.numbers == nil {
			t.numbers = make(map[tallied]uint32)
		}
		t.last++
		n = t.last
		t.numbers[key] = n
	}
	return n
}

// keep forgets the numbers of entries that are no more.
func (t *tallies) keep(spd []policy.Entry) {
	kept := make(map[tallied]uint32, len(spd))
	for i := range spd {
		key := tallied{spd[i].Name, spd[i].Source}
		if n, ok := t.numbers[key]; ok {
			kept[key] = n
		}
	}
	t.numbers = kept
}

// view is what was counted, in the order of the SPD.
func (t *tallies) view(spd []policy.Entry) (out []ClearView) {
	by := make(map[uint32]dataplane.Cleared, len(t.read))
	for _, c := range t.read {
		by[c.Tally] = c
	}
	for i := range spd {
		n := t.numbers[tallied{spd[i].Name, spd[i].Source}]
		if c := by[n]; n != 0 && c.Packets > 0 {
			out = append(out, ClearView{Entry: spd[i].Name, Source: spd[i].Source, Packets: c.Packets, Bytes: c.Bytes})
			delete(by, n) // entries of one name and place count together
		}
	}
	return out
}
