package flow

import (
	"encoding/binary"
	"maps"
	"math/rand/v2"
	"net/netip"
	"testing"
)

// A trie is the map that was built by the same changes, and no change touches an older one, except that an owner changes
// in place what it has made since it gave a trie away.
func TestTrie(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		var (
			tr     trie[int]
			m      = map[key]int{}
			old    trie[int]
			oldMap map[key]int
			by     *owner
			keyOf  = func() key {
				return []key{
					number(r.Uint64N(100)), number(r.Uint64N(100) << 32), number(r.Uint64N(50) << 58),
					{hi: r.Uint64N(30)},
					{hi: r.Uint64N(30) << 60},
					number(r.Uint64N(9) * 0x1084210842108421),
					{lo: 1, hi: r.Uint64N(9) * 0x1084210842108421},
				}[r.IntN(7)]
			}
			compare = func(tr trie[int], m map[key]int) {
				t.Helper()
				if tr.size != len(m) {
					t.Fatalf("seed %d: size %d, not %d", seed, tr.size, len(m))
				}
				for k, v := range m {
					if got, ok := tr.get(k); !ok || got != v {
						t.Fatalf("seed %d: key %x: %d %v, not %d", seed, k, got, ok, v)
					}
				}
				n := 0
				tr.each(func(k key, v int) bool {
					if n++; m[k] != v {
						t.Fatalf("seed %d: key %x: %d, not %d", seed, k, v, m[k])
					}
					return true
				})
				if n != len(m) {
					t.Fatalf("seed %d: %d values, not %d", seed, n, len(m))
				}
			}
		)
		for i := range 3000 {
			k := keyOf()
			if r.IntN(5) < 2 {
				tr = tr.delete(k)
				delete(m, k)
			} else {
				tr = tr.put(k, i, by)
				m[k] = i
			}
			if _, want := m[k]; true {
				if _, ok := tr.get(k); ok != want {
					t.Fatalf("seed %d: key %x: %v", seed, k, ok)
				}
			}
			if i%100 == 0 { // given away
				if oldMap != nil {
					compare(old, oldMap)
				}
				old, oldMap = tr, maps.Clone(m)
				by = []*owner{nil, new(owner)}[r.IntN(2)]
			}
		}
		compare(tr, m)
		compare(old, oldMap)
		for k := range m {
			tr = tr.delete(k)
		}
		if tr.root != nil || tr.size != 0 {
			t.Fatalf("seed %d: an empty trie has nodes", seed)
		}
	}
}

// Different addresses have different keys, and those of many hosts that end alike are soon told apart.
func TestAddressKeys(t *testing.T) {
	seen := make(map[key]netip.Addr)
	first := make(map[uint32]int)
	for i := range 4096 {
		for _, b := range [...][16]byte{
			{0: 0x20, 1: 1, 2: byte(i >> 8), 3: byte(i), 15: 1},   // many sites
			{0: 0x20, 1: 2, 6: byte(i >> 8), 7: byte(i), 15: 1},   // many links of a site
			{0: 0x20, 1: 3, 14: byte(i >> 8), 15: byte(i)},        // many hosts of a link
			{0: 0x20, 1: 4, 8: byte(i >> 8), 9: byte(i), 15: 0xa}, // made up to end alike
		} {
			a := netip.AddrFrom16(b)
			k := address(a)
			if o, taken := seen[k]; taken {
				t.Fatalf("%v and %v have one key", a, o)
			}
			seen[k] = a
			if b[1] < 3 {
				first[k.slot(0)]++
			}
		}
	}
	for slot, n := range first {
		if n > 4*2*4096>>stride {
			t.Errorf("%d of %d in slot %b", n, 2*4096, slot)
		}
	}
}

// An address comes back from its key, so that an entry does not have to hold it.
func TestAddressOfKey(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		var b [16]byte
		binary.BigEndian.PutUint64(b[:], r.Uint64())
		binary.BigEndian.PutUint64(b[8:], r.Uint64())
		for _, a := range []netip.Addr{netip.AddrFrom16(b), netip.AddrFrom4([4]byte(b[:4]))} {
			if got := address(a).address(family(a)); got != a {
				t.Fatalf("%v is not %v", got, a)
			}
		}
	}
}
