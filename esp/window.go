package esp

import (
	"math"
	"math/bits"
)

// window is the anti-replay window (RFC 4303 §3.4.3) as a ring of words (RFC 6479): moving ahead clears whole words and
// shifts nothing. The ring has at least one word more than the window. There is none before the first packet, and while
// the window rests.
type window struct {
	top  uint64   // highest authenticated number
	late uint64   // without a ring: bit n says that top-n has not come and still may; all else up to top may not
	ring []uint64 // a power of two
	size uint32
	esn  bool
}

// infer completes the low half of a sequence number (RFC 4303 appendix A2.2); ok is false for one before the first.
func (w *window) infer(low uint32) (seq uint64, ok bool) {
	if !w.esn {
		return uint64(low), low != 0
	}
	var (
		th, tl = w.top >> 32, uint32(w.top)
		bottom = tl - w.size + 1 // mod 2^32
	)
	switch {
	case tl >= w.size-1: // the window lies within one block
		if low < bottom {
			th++
		}
	case low >= bottom: // the window reaches into the block before
		if th == 0 {
			return 0, false
		}
		th--
	}
	seq = th<<32 | uint64(low)
	return seq, th <= math.MaxUint32 && seq != 0
}

// check reports whether seq may still be accepted.
func (w *window) check(seq uint64) bool {
	switch {
	case seq > w.top:
		return true
	case w.top-seq >= uint64(w.size):
		return false
	case w.ring == nil:
		return w.late>>(w.top-seq)&1 != 0
	}
	return w.ring[w.slot(seq)]&(1<<(seq%64)) == 0
}

// accept marks seq, which authenticated, and reports whether it is the highest so far.
func (w *window) accept(seq uint64) bool {
	if w.ring == nil {
		w.wake()
	}
	newest := seq > w.top
	if newest {
		ahead := min(seq/64-w.top/64, uint64(len(w.ring)))
		for i := uint64(1); i <= ahead; i++ {
			w.ring[(w.top/64+i)&uint64(len(w.ring)-1)] = 0
		}
		w.top = seq
	}
	w.ring[w.slot(seq)] |= 1 << (seq % 64)
	return newest
}

func (w *window) slot(seq uint64) uint64 { return seq / 64 & uint64(len(w.ring)-1) }

// resting is the window that RFC 4303 §3.4.3 prefers, and what is kept of a longer one while no packet comes.
const resting = 64

// rest gives the ring back. It forgets no number that came: those before the last 64 count as if they had, too.
func (w *window) rest() {
	if w.ring == nil {
		return
	}
	w.late = 0
	for n := range min(resting, uint64(w.size), w.top) { // the first number is 1
		if seq := w.top - n; w.ring[w.slot(seq)]&(1<<(seq%64)) == 0 {
			w.late |= 1 << n
		}
	}
	w.ring = nil
}

// wake makes the ring again.
func (w *window) wake() {
	w.ring = make([]uint64, 1<<bits.Len32((w.size+63)/64))
	for i := range w.ring {
		w.ring[i] = math.MaxUint64
	}
	w.ring[w.slot(w.top)] >>= 63 - w.top%64
	for late := w.late; late != 0; late &= late - 1 {
		seq := w.top - uint64(bits.TrailingZeros64(late))
		w.ring[w.slot(seq)] &^= 1 << (seq % 64)
	}
}
