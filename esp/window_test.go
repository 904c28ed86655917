package esp

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"
)

// model is the window as RFC 4303 §3.4.3 describes it: a set and a right edge.
type model struct {
	seen map[uint64]bool
	top  uint64
	size uint64
}

func (m *model) accept(seq uint64) bool {
	if seq == 0 || seq <= m.top && m.top-seq >= m.size || m.seen[seq] {
		return false
	}
	m.seen[seq] = true
	m.top = max(m.top, seq)
	return true
}

// rest refuses what is so late that it was under way while nothing came.
func (m *model) rest() {
	for n := uint64(resting); n < m.size && n < m.top; n++ {
		m.seen[m.top-n] = true
	}
}

// The ring accepts exactly what the model accepts, under reordering, duplicates, gaps and jumps over the whole ring, and
// however often it is given back.
func TestWindowReordering(t *testing.T) {
	for seed := range uint64(400) {
		rests := seed%4 >= 2
		r := rand.New(rand.NewPCG(seed, 1))
		size := []uint64{32, 64, 65, 1000, 1024, 4096}[seed%6]
		esn := seed%2 == 0
		start := []uint64{0, 1<<32 - 2000, 3 << 32, 7<<32 + 500}[r.IntN(4)]
		if !esn {
			start = 0
		}
		w := window{size: uint32(size), esn: esn, top: start}
		m := model{seen: map[uint64]bool{}, top: start, size: size}
		if start > 0 { // the one at the edge came, and nothing before it
			w.wake()
			clear(w.ring)
			w.accept(start)
			m.seen[start] = true
		}
		head := start
		for n := range 3000 {
			if rests && n%10 == 0 {
				w.rest()
				m.rest()
			}
			var seq uint64
			switch r.IntN(20) {
			case 0:
				head += uint64(r.IntN(3 * int(size)))
				seq = head
			case 1, 2, 3, 4, 5, 6:
				seq = head - min(head, uint64(r.IntN(2*int(size))))
			default:
				head++
				seq = head
			}
			got, ok := w.infer(uint32(seq))
			// What lies behind the window may be taken for a number 2^32 later: the ICV refuses it.
			if inside := m.top < size || seq > m.top-size; esn && inside && seq != 0 && (!ok || got != seq) {
				t.Fatalf("seed %d: top %d: %d taken for %d, %v", seed, m.top, seq, got, ok)
			}
			fresh := ok && got == seq && w.check(got)
			if want := m.accept(seq); fresh != want {
				t.Fatalf("seed %d: top %d, window %d: number %d: %v, want %v", seed, w.top, size, seq, fresh, want)
			}
			if fresh {
				w.accept(got)
			}
		}
	}
}

// A replay is refused after the window has rested, and what is late within 64 packets is not (RFC 4303 §3.4.3).
func TestReplayAfterRest(t *testing.T) {
	for _, suite := range suites() {
		s, o := testPair(t, suite, 0)
		var packets [][]byte
		for range 300 {
			packets = append(packets, sealed(t, s, []byte{1}, 6))
		}
		dst := make([]byte, 100)
		late := map[int]bool{100: true, 250: true, 290: true} // 250 and 290 are among the last 64
		for i, p := range packets {
			if late[i] {
				continue
			}
			if _, _, err := o.Open(dst, p); err != nil {
				t.Fatalf("%v: %v", suite, err)
			}
		}
		for range 2 { // without a packet between
			o.Rest()
		}
		if o.Awake() || o.win.ring != nil {
			t.Fatalf("%v: keeps what only a busy SA needs", suite)
		}
		for i, p := range packets {
			_, _, err := o.Open(dst, p)
			if want := i == 250 || i == 290; (err == nil) != want || err != nil && !errors.Is(err, ErrReplay) {
				t.Fatalf("%v: packet %d after rest: %v", suite, i, err)
			}
			if i%50 == 0 {
				o.Rest()
			}
		}
		s.Rest()
		if s.Awake() {
			t.Fatalf("%v: keeps what only a busy SA needs", suite)
		}
		fresh := sealed(t, s, []byte{1}, 6)
		if _, _, err := o.Open(dst, fresh); err != nil || s.Sequence() != 301 || o.Highest() != 301 {
			t.Fatalf("%v: the next packet: %v, number %d", suite, err, s.Sequence())
		}
	}
}

// RFC 4303 appendix A2.2: the four cases, and both ends of the number space.
func TestInferESN(t *testing.T) {
	const w = 64
	cases := []struct {
		name string
		top  uint64
		low  uint32
		want uint64
		ok   bool
	}{
		{"first packet", 0, 1, 1, true},
		{"number zero does not exist", 0, 0, 0, false},
		{"inside the window, one block", 1000, 950, 950, true},
		{"ahead, one block", 1000, 5000, 5000, true},
		{"behind the window means the next block", 1000, 936, 1<<32 + 936, true},
		{"bottom of the window", 1000, 937, 937, true},
		{"window reaches back a block", 1<<32 + 10, math.MaxUint32, math.MaxUint32, true},
		{"bottom across blocks", 1<<32 + 10, math.MaxUint32 - 52, math.MaxUint32 - 52, true},
		{"below the bottom is ahead", 1<<32 + 10, math.MaxUint32 - 53, 2<<32 - 54, true},
		{"no block before the first", 10, math.MaxUint32, 0, false},
		{"zero in a later block", 1<<32 - 1, 0, 1 << 32, true},
		{"last number", math.MaxUint64 - 5, math.MaxUint32, math.MaxUint64, true},
		{"past the last number", math.MaxUint64 - 5, 3, 0, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			win := window{size: w, esn: true, top: c.top}
			got, ok := win.infer(c.low)
			if ok != c.ok || ok && got != c.want {
				t.Fatalf("got %d (%d<<32+%d), %v", got, got>>32, uint32(got), ok)
			}
		})
	}
}

// Packets open in any order within the window, each once, also around 2^32 (RFC 4303 §3.4.3, appendix A).
func TestReplayOfPackets(t *testing.T) {
	for _, suite := range suites() {
		s, o := testPair(t, suite, 64)
		if suite.ESN {
			s.seq, o.win.top = 1<<32-40, 1<<32-40
		}
		var packets [][]byte
		for range 60 {
			packets = append(packets, sealed(t, s, []byte{1}, 6))
		}
		r := rand.New(rand.NewPCG(1, 2))
		r.Shuffle(len(packets), func(i, j int) { packets[i], packets[j] = packets[j], packets[i] })
		dst := make([]byte, 100)
		for _, p := range packets {
			if _, _, err := o.Open(dst, p); err != nil {
				t.Fatalf("%v: %v", suite, err)
			}
		}
		for _, p := range packets {
			if _, _, err := o.Open(dst, p); err == nil {
				t.Fatalf("%v: opened twice", suite)
			}
		}
		late := sealed(t, s, []byte{1}, 6)
		for range 64 {
			p := sealed(t, s, []byte{1}, 6)
			if _, _, err := o.Open(dst, p); err != nil {
				t.Fatal(err)
			}
		}
		if _, _, err := o.Open(dst, late); err == nil {
			t.Fatalf("%v: opened behind the window", suite)
		}
	}
}
