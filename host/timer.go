package host

import (
	"container/heap"
	"net/netip"
	"slices"
	"time"

	"github.com/btns-ipsec/btns/dataplane/flow"
)

// alarm is something to look at later. Entries are never removed early: whoever is woken checks whether it still matters.
type alarm struct {
	at   time.Time
	seq  uint64 // ties keep their order, so that a seed has one trace
	what alarmKind
	peer netip.Addr
	pair flow.PairID
}

type alarmKind uint8

const (
	endUpgrade    alarmKind = iota + 1 // clear packets are no longer accepted from peer
	useAnnounced                       // the peer has had time to get pair
	dropLingered                       // pair has outlived its last packets in flight
	endHold                            // what may go in clear to peer has waited long enough
	tryAgain                           // peer may be tried again
	checkTwins                         // peer has two IKE SAs that are still not settled
	readCounters                       // liveness, and records that wait for traffic both ways
	expireRecords                      // records age (BTNS-TRUST-14)
	keepRecords                        // those of sessions in use do not
	endCompare                         // nobody has gone on with a comparison with peer
	turnKey                            // the next own key takes over
	speak                              // the session whose handle is pair is told what there is to tell
	stopNow                            // enough waited for answers to our farewells
)

type alarms struct {
	heap    alarmHeap
	seq     uint64
	keeping bool // one is set at which records of sessions in use are renewed
}

func (a *alarms) add(at time.Time, what alarmKind, peer netip.Addr, pair flow.PairID) {
	a.seq++
	heap.Push(&a.heap, alarm{at, a.seq, what, peer, pair})
}

// next returns the first alarm that is due at now.
func (a *alarms) next(now time.Time) (alarm, bool) {
	if len(a.heap) == 0 || a.heap[0].at.After(now) {
		return alarm{}, false
	}
	due := heap.Pop(&a.heap).(alarm)
	if n := len(a.heap); cap(a.heap) > 64 && n < cap(a.heap)/4 {
		a.heap = slices.Clone(a.heap) // there were many at once
	}
	return due, true
}

func (a *alarms) deadline() (time.Time, bool) {
	if len(a.heap) == 0 {
		return time.Time{}, false
	}
	return a.heap[0].at, true
}

type alarmHeap []alarm

func (h alarmHeap) Len() int { return len(h) }
func (h alarmHeap) Less(i, j int) bool {
	if !h[i].at.Equal(h[j].at) {
		return h[i].at.Before(h[j].at)
	}
	return h[i].seq < h[j].seq
}
func (h alarmHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *alarmHeap) Push(x any)   { *h = append(*h, x.(alarm)) }
func (h *alarmHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}
