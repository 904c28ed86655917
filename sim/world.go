package sim

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// T is what a world needs of a test.
type T interface {
	Helper()
	Fatalf(format string, args ...any)
}

// World is a network of hosts and its clock.
type World struct {
	t     T
	seed  uint64
	now   time.Time
	rnd   *rand.Rand
	queue eventQueue
	seq   uint64

	nodes  []*Node
	byAddr map[netip.Addr]*Node
	link   Link
	cut    map[[2]netip.Addr]bool
	nat    map[*Node]netip.Addr // the outer address of a node behind a NAT of its own

	ikeSent int      // IKE messages sent
	ladder  []string // the last messages, a ring
	lines   int
	traceOf uint64 // hash of all lines
}

// Link is how packets travel. The zero value delivers at once, in order, all.
type Link struct {
	Delay     time.Duration
	Jitter    time.Duration // added at random; reorders
	Loss      float64
	Duplicate float64
}

const ladderLines = 80

// New makes an empty world.
func New(t T, seed uint64) *World {
	return &World{
		t: t, seed: seed, now: time.Unix(1_800_000_000, 0).UTC(),
		rnd:    rand.New(rand.NewPCG(seed, 0x62746e73)),
		byAddr: make(map[netip.Addr]*Node),
		link:   Link{Delay: 5 * time.Millisecond},
		cut:    make(map[[2]netip.Addr]bool),
		nat:    make(map[*Node]netip.Addr),
		ladder: make([]string, 0, ladderLines), traceOf: 14695981039346656037,
	}
}

// Now is the virtual time.
func (w *World) Now() time.Time { return w.now }

// Rand is the world's source of chance.
func (w *World) Rand() *rand.Rand { return w.rnd }

// SetLink changes how packets travel from now on, between all nodes.
func (w *World) SetLink(l Link) { w.link = l }

// Cut separates two nodes, or joins them again.
func (w *World) Cut(a, b *Node, apart bool) {
	w.cut[[2]netip.Addr{a.Addr, b.Addr}] = apart
	w.cut[[2]netip.Addr{b.Addr, a.Addr}] = apart
}

// natPorts is what a NAT adds to the ports of those behind it.
const natPorts = 40000

// Translate puts a node behind a NAT with that outer address, or gives its NAT another one, of which it does not know.
func (w *World) Translate(n *Node, outer netip.Addr) {
	w.say("the NAT of %s has the address %v", n.Name, outer)
	if old, ok := w.nat[n]; ok && w.byAddr[old] == n {
		delete(w.byAddr, old)
	}
	w.nat[n], w.byAddr[outer] = outer, n
}

// translated is d between other addresses. Those of a clear packet stand in it.
func (d datagram) translated(local, remote netip.AddrPort) datagram {
	if d.kind == clearText {
		data := slices.Clone(d.data)
		from, to := local.Addr().As4(), remote.Addr().As4()
		copy(data[12:], from[:])
		copy(data[16:], to[:])
		d.data, local, remote = data, netip.AddrPortFrom(local.Addr(), 0), netip.AddrPortFrom(remote.Addr(), 0)
	}
	d.local, d.remote = local, remote
	return d
}

// Trace is a hash over every message and change so far: equal seeds give equal traces.
func (w *World) Trace() uint64 { return w.traceOf }

// After runs f when d has passed.
func (w *World) After(d time.Duration, f func()) {
	w.seq++
	heap.Push(&w.queue, event{w.now.Add(d), w.seq, f})
}

// Run lets d pass.
func (w *World) Run(d time.Duration) {
	end := w.now.Add(d)
	w.until(end, func() bool { return false })
	w.now = end
}

// RunUntil runs until ok holds, and fails the test when it does not within d.
func (w *World) RunUntil(d time.Duration, what string, ok func() bool) {
	w.t.Helper()
	if !w.until(w.now.Add(d), ok) {
		w.Fail("not within %v: %s", d, what)
	}
}

func (w *World) until(end time.Time, ok func() bool) bool {
	for !ok() {
		if len(w.queue) == 0 || w.queue[0].at.After(end) {
			return false
		}
		e := heap.Pop(&w.queue).(event)
		if e.at.After(w.now) {
			w.now = e.at
		}
		e.run()
	}
	return true
}

// Fail ends the test with the seed and the ladder.
func (w *World) Fail(format string, args ...any) {
	w.t.Helper()
	w.t.Fatalf("seed %d at %s: %s\n%s", w.seed, w.stamp(), fmt.Sprintf(format, args...), w.Ladder())
}

// Ladder is the last messages, oldest first.
func (w *World) Ladder() string {
	var b strings.Builder
	for i := range w.ladder {
		b.WriteString(w.ladder[(w.lines+i)%len(w.ladder)])
		b.WriteByte('\n')
	}
	return b.String()
}

func (w *World) stamp() string {
	return fmt.Sprintf("%.6fs", w.now.Sub(time.Unix(1_800_000_000, 0)).Seconds())
}

// say adds a line to the ladder and to the trace.
func (w *World) say(format string, args ...any) { w.write(true, format, args...) }

// write adds a line to the trace and, for what a reader of the ladder wants to see, there too.
func (w *World) write(show bool, format string, args ...any) {
	line := w.stamp() + " " + fmt.Sprintf(format, args...)
	for i := 0; i < len(line); i++ { // FNV-1a
		w.traceOf = (w.traceOf ^ uint64(line[i])) * 1099511628211
	}
	if !show {
		return
	}
	if len(w.ladder) < ladderLines {
		w.ladder = append(w.ladder, line)
		return
	}
	w.ladder[w.lines%ladderLines] = line
	w.lines++
}

// carry brings a datagram to whoever has the address, as the link allows.
func (w *World) carry(from *Node, d datagram) {
	if outer, ok := w.nat[from]; ok {
		d = d.translated(netip.AddrPortFrom(outer, d.local.Port()+natPorts), d.remote)
	}
	if d.kind == ike {
		w.ikeSent++
	}
	copies := 1
	if w.rnd.Float64() < w.link.Duplicate {
		copies = 2
	}
	for range copies {
		if w.rnd.Float64() < w.link.Loss {
			w.write(d.kind != esp, "%s -> %s  %s  LOST", from.Name, w.nameOf(d.remote.Addr()), d)
			continue
		}
		delay := w.link.Delay
		if w.link.Jitter > 0 {
			delay += time.Duration(w.rnd.Int64N(int64(w.link.Jitter)))
		}
		w.After(delay, func() {
			if w.cut[[2]netip.Addr{d.local.Addr(), d.remote.Addr()}] {
				return
			}
			if to := w.byAddr[d.remote.Addr()]; to != nil && to.running() {
				d := d
				if outer, ok := w.nat[to]; ok && d.remote.Addr() == outer {
					d = d.translated(d.local, netip.AddrPortFrom(to.Addr, d.remote.Port()-natPorts))
				}
				to.receive(datagram{local: d.remote, remote: d.local, kind: d.kind, data: d.data})
			}
		})
	}
	w.write(d.kind != esp, "%s -> %s  %s", from.Name, w.nameOf(d.remote.Addr()), d)
}

func (w *World) nameOf(a netip.Addr) string {
	if n := w.byAddr[a]; n != nil {
		return n.Name
	}
	return a.String()
}

type event struct {
	at  time.Time
	seq uint64
	run func()
}

type eventQueue []event

func (q eventQueue) Len() int { return len(q) }
func (q eventQueue) Less(i, j int) bool {
	if !q[i].at.Equal(q[j].at) {
		return q[i].at.Before(q[j].at)
	}
	return q[i].seq < q[j].seq
}
func (q eventQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *eventQueue) Push(x any)   { *q = append(*q, x.(event)) }
func (q *eventQueue) Pop() any {
	old := *q
	last := old[len(old)-1]
	*q = old[:len(old)-1]
	return last
}
