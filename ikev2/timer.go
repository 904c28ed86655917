package ikev2

import (
	"container/heap"
	"math"
	"time"
)

// instant is a time in nanoseconds since the endpoint's first step. Eight octets: there may be many SAs.
type instant int64

const never instant = math.MaxInt64

func (t instant) add(d time.Duration) instant {
	if d > 0 && t > never-instant(d) {
		return never
	}
	return t + instant(d)
}

// wheel orders the IKE SAs by when each wants to be looked at. One entry per SA, so that a hundred thousand of them cost
// no timer and no goroutine.
type wheel []*sa

func (w wheel) Len() int { return len(w) }
func (w wheel) Less(i, j int) bool {
	return w[i].due < w[j].due || w[i].due == w[j].due && w[i].serial < w[j].serial
}

func (w wheel) Swap(i, j int) {
	w[i], w[j] = w[j], w[i]
	w[i].slot, w[j].slot = int32(i), int32(j)
}

func (w *wheel) Push(x any) {
	s := x.(*sa)
	s.slot = int32(len(*w))
	*w = append(*w, s)
}

func (w *wheel) Pop() any {
	old := *w
	s := old[len(old)-1]
	old[len(old)-1] = nil
	*w = old[:len(old)-1]
	s.slot = -1
	return s
}

// set changes when s is due; never takes it out.
func (w *wheel) set(s *sa, due instant) {
	in := s.slot >= 0
	switch {
	case due == never && in:
		heap.Remove(w, int(s.slot))
	case due == never:
	case !in:
		s.due = due
		heap.Push(w, s)
	case due != s.due:
		s.due = due
		heap.Fix(w, int(s.slot))
	}
	s.due = due
}

// first returns the SA that is due next.
func (w wheel) first() (*sa, bool) {
	if len(w) == 0 {
		return nil, false
	}
	return w[0], true
}
