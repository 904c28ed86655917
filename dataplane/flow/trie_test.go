package flow

import (
	"maps"
	"math/rand/v2"
	"testing"
)

// A trie is the map that was built by the same changes, and no change touches an older one.
func TestTrie(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		var (
			tr     trie[int]
			m      = map[uint64]int{}
			old    trie[int]
			oldMap map[uint64]int
			keyOf  = func() uint64 {
				return []uint64{r.Uint64N(100), r.Uint64N(100) << 32, r.Uint64N(50) << 58, r.Uint64N(9) * 0x1041041041041041}[r.IntN(4)]
			}
			compare = func(tr trie[int], m map[uint64]int) {
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
				tr.all(func(int) bool { n++; return true })
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
				tr = tr.put(k, i)
				m[k] = i
			}
			if _, want := m[k]; true {
				if _, ok := tr.get(k); ok != want {
					t.Fatalf("seed %d: key %x: %v", seed, k, ok)
				}
			}
			if i == 1500 {
				old, oldMap = tr, maps.Clone(m)
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
