package host

import (
	"net/netip"
	"time"
)

// aliveEvery is how often trust is told which sessions carry packets: so that their records do not age (BTNS-TRUST-14),
// and so that one key alive in two places is noticed.
const aliveEvery = time.Minute

// keepSoon sets the alarm of [Host.keepRecords] unless it is set.
func (h *Host) keepSoon(now time.Time) {
	if !h.alarms.keeping {
		h.alarms.keeping = true
		h.alarms.add(now.Add(aliveEvery), keepRecords, netip.Addr{}, 0)
	}
}

// keepRecords tells trust about the sessions from whose peers packets have come since. What they sent was authentic: the
// holder of the key is there.
func (h *Host) keepRecords(now time.Time) {
	h.alarms.keeping = false
	for _, s := range h.sortedSessions() {
		if !s.up || !s.recorded || s.who.Key.IsZero() {
			continue
		}
		h.keepSoon(now)
		if s.inUse {
			s.inUse = false
			// Not now: since then the peer may have restarted, and be here under another instance.
			h.persist(h.book.Alive(h.time(s.alive), h.query(s, s.who, s.named)))
		}
	}
	h.book.Quiet(now)
}
