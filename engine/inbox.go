package engine

import (
	"sync"

	"github.com/btns-ipsec/btns/dataplane"
	"github.com/btns-ipsec/btns/host"
)

// What happens when the queue is full: an IKE datagram is dropped and counted, its sender repeats it (RFC 7296 §2.1).
// What the plane tells again by itself has a little more room. The rest has no limit here because it has one where it
// comes from: at most three events for each SA pair, one for each job that a worker had, one for each open request.
const (
	maxDatagrams = 4096
	maxRepeated  = 8192
)

// item is an event for the host, or a request to run on the loop.
type item struct {
	event host.Event
	call  func()
}

// inbox is the queue before the loop. Its zero value is not usable.
type inbox struct {
	ready chan struct{} // holds one token when there may be something

	mu      sync.Mutex
	items   []item
	closed  bool
	dropped uint64
}

func newInbox() *inbox {
	return &inbox{ready: make(chan struct{}, 1)}
}

// plane takes an event of the plane. It never blocks.
func (q *inbox) plane(ev dataplane.Event) {
	limit := 0
	switch ev.(type) {
	case dataplane.Datagram:
		limit = maxDatagrams
	case dataplane.Acquire, dataplane.UnknownSPI, dataplane.Dropped, dataplane.Moved, dataplane.PortClosed:
		limit = maxRepeated
	}
	q.put(item{event: host.FromPlane{Event: ev}}, limit)
}

// put reports whether it took the item; limit 0 is none.
func (q *inbox) put(it item, limit int) bool {
	q.mu.Lock()
	switch {
	case q.closed:
		q.mu.Unlock()
		return false
	case limit > 0 && len(q.items) >= limit:
		q.dropped++
		q.mu.Unlock()
		return false
	}
	q.items = append(q.items, it)
	q.mu.Unlock()
	select {
	case q.ready <- struct{}{}:
	default:
	}
	return true
}

// take returns all that waits; spare is used for what comes next.
func (q *inbox) take(spare []item) []item {
	q.mu.Lock()
	defer q.mu.Unlock()
	got := q.items
	clear(spare)
	q.items = spare[:0]
	return got
}

// close refuses everything from here on and returns what was left.
func (q *inbox) close() []item {
	q.mu.Lock()
	defer q.mu.Unlock()
	left := q.items
	q.items, q.closed = nil, true
	return left
}

func (q *inbox) drops() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.dropped
}
