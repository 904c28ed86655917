package host

import (
	"net/netip"
	"slices"
	"time"

	"github.com/btns-ipsec/btns/dataplane"
	"github.com/btns-ipsec/btns/dataplane/flow"
	"github.com/btns-ipsec/btns/ikev2"
)

// The planes count; the host reads now and then, to see with whom traffic has gone both ways (BTNS-TRUST-16) and who has
// fallen silent while packets go out (RFC 7296 §2.4).

const (
	countersEvery = 2 * time.Second // what goes unanswered is noticed so soon
	countersSoon  = time.Second     // while a record waits for traffic both ways; no reading follows another sooner

	lull      = 2 * time.Second  // silence of a peer that is sent to, before it is checked
	maxLull   = 10 * time.Second // the same when it never sends, but answers checks
	maxProofs = 3                // answers after which it is no longer checked less often
	// overlap is how far a packet out must be behind the last one in to count as unanswered: an acknowledgment is not
	// answered, and planes tell the time to about a second.
	overlap = time.Second
)

// reading is of the counters: when they were read, when they are to be (zero: no alarm for it is set), and what they were.
type reading struct {
	last, next time.Time
	list       []dataplane.Counters
}

// volume is how many packets an IKE SA has carried.
type volume struct{ in, out uint64 }

// traffic of one IKE SA.
type traffic struct {
	in, out         uint64 // packets
	lastIn, lastOut time.Time
}

func (t *traffic) add(c dataplane.Counters) {
	t.in += c.PacketsIn
	t.out += c.PacketsOut
	if c.LastIn.After(t.lastIn) {
		t.lastIn = c.LastIn
	}
	if c.LastOut.After(t.lastOut) {
		t.lastOut = c.LastOut
	}
}

func (h *Host) read(now time.Time) {
	h.reading.last = now
	h.out = append(h.out, ReadCounters{})
}

// readAt sees to it that the counters are read at that time at the latest.
func (h *Host) readAt(at time.Time) {
	if h.reading.next.IsZero() || at.Before(h.reading.next) {
		h.reading.next = at
		h.alarms.add(at, readCounters, netip.Addr{}, 0)
	}
}

// readSoon reads at once if that was not done a moment ago: many peers may come at the same time, and each reading is of
// all pairs.
func (h *Host) readSoon(now time.Time) {
	if at := h.reading.last.Add(countersSoon); at.After(now) {
		h.readAt(at)
		return
	}
	h.read(now)
}

// countersRead looks for peers that fall silent, and for those with whom traffic has gone both ways. Pairs that never
// carried anything may be most, and are no reason to read again soon: the plane tells of the first packet of one.
func (h *Host) countersRead(now time.Time, list []dataplane.Counters) {
	h.reading.list = list
	after := countersEvery
	judge := func(s *session, t traffic) {
		h.judgeTraffic(now, s, t)
		if !s.recorded && !s.who.Key.IsZero() {
			after = countersSoon
		}
	}
	sums := make(map[*session]*traffic) // of those with several pairs
	var order []*session
	for _, c := range list {
		pair := h.sas.Get(uint64(c.ID))
		if pair == nil || c.PacketsIn|c.PacketsOut == 0 {
			continue
		}
		s := h.sessions[ikev2.Handle(pair.Owner)]
		switch {
		case s == nil || !s.up:
		case sums[s] != nil:
			sums[s].add(c)
		case h.sas.Sole(pair):
			var t traffic
			t.add(c)
			judge(s, t)
		default:
			sums[s] = new(traffic)
			sums[s].add(c)
			order = append(order, s)
		}
	}
	for _, s := range order {
		judge(s, *sums[s])
	}
	if h.sas.Len() > 0 {
		h.readAt(now.Add(after))
	}
}

func (h *Host) judgeTraffic(now time.Time, s *session, t traffic) {
	was := s.seen // more than t when a pair has gone: then nothing is known yet
	s.seen = volume{t.in, t.out}
	if t.in > was.in {
		s.proofs, s.inUse = 0, true
		s.alive = max(s.alive, h.moment(told(now, t.lastIn)))
		h.ike(now, ikev2.Alive{SA: s.handle})
	}
	alive := h.time(s.alive)
	if t.out > was.out && now.Sub(alive) >= s.lull() && told(now, t.lastOut).Sub(alive) >= overlap {
		h.ike(now, ikev2.Unanswered{SA: s.handle})
	}
	if !s.recorded && t.in > 0 && t.out > 0 {
		s.recorded = true
		h.record(now, s)
	}
}

// countersOf are those of one pair.
func (h *Host) countersOf(id flow.PairID) dataplane.Counters {
	i := slices.IndexFunc(h.reading.list, func(c dataplane.Counters) bool { return c.ID == id })
	if i < 0 {
		return dataplane.Counters{ID: id}
	}
	return h.reading.list[i]
}

// lull is how long the peer may be silent while we send to it. Whoever only ever listens is asked less and less often.
func (s *session) lull() time.Duration { return min(lull<<s.proofs, maxLull) }

// told is when something happened that a plane tells of, by the clock on the wall, on the clock that this host reckons by,
// which stands still while the machine sleeps and is not set. What a plane does not know happened just now.
func told(now, wall time.Time) time.Time {
	if wall.IsZero() {
		return now
	}
	return now.Add(min(wall.Round(0).Sub(now.Round(0)), 0))
}
