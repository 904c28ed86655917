package esp

import (
	"math"
	"math/bits"
)

// window is the anti-replay window (RFC 4303 §3.4.3) as a ring of words (RFC 6479): moving ahead clears whole words and
// shifts nothing. The ring has at least one word more than the window.
type window struct {
	size uint64
	top  uint64   // highest authenticated number
	ring []uint64 // nil until the first packet; a power of two
	esn  bool
}

// infer completes the low half of a sequence number (RFC 4303 appendix A2.2); ok is false for one before the first.
func (w *window) infer(low uint32) (seq uint64, ok bool) {
	if !w.esn {
		return uint64(low), low != 0
	}
	var (
		th, tl = w.top >> 32, uint32(w.top)
		bottom = tl - uint32(w.size) + 1 // mod 2^32
	)
	switch {
	case uint64(tl) >= w.size-1: // the window lies within one block
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
	case w.top-seq >= w.size:
		return false
	case w.ring == nil: // nothing was accepted yet
		return true
	}
	return w.ring[w.slot(seq)]&(1<<(seq%64)) == 0
}

// accept marks seq, which authenticated, and reports whether it is the highest so far.
func (w *window) accept(seq uint64) bool {
	if w.ring == nil {
		w.ring = make([]uint64, 1<<bits.Len64((w.size+63)/64))
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
