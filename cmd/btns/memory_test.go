package main

import (
	"slices"
	"testing"
)

// Memory is given back once after each burst, and not while one goes on.
func TestBurstIsOver(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		name string
		live uint64
		used []uint64 // between looks
		want []bool
	}{
		{"nothing happens", mib, []uint64{100, 100, 100}, []bool{false, false, false}},
		{"one burst", mib, []uint64{50 * mib, 100, 100, 100}, []bool{false, true, false, false}},
		{"a long one", mib, []uint64{50 * mib, 50 * mib, mib / 2, 0}, []bool{false, false, true, false}},
		{"two", mib, []uint64{9 * mib, 0, 0, 9 * mib, 0}, []bool{false, true, false, false, true}},
		{"many peers are looked after", 80 * mib, []uint64{90 * mib, 5 * mib, 5 * mib, 5 * mib, 5 * mib}, []bool{false, true, false, false, true}},
		{"a trickle adds up", mib, []uint64{mib / 2, mib / 2, mib / 2, mib / 2}, []bool{false, false, true, false}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var u usage
			var got []bool
			allocated := uint64(0)
			for _, n := range c.used {
				allocated += n
				got = append(got, u.over(allocated, c.live))
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("%v, not %v", got, c.want)
			}
		})
	}
}
