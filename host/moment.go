package host

import "time"

// moment is a time in nanoseconds since this host began, counted from 1; 0 is never. It is what is kept where there may be
// many: a third of a time.Time, and nothing for the garbage collector.
type moment int64

func (h *Host) moment(t time.Time) moment {
	if t.IsZero() {
		return 0
	}
	return moment(t.Sub(h.began)) + 1
}

// time is the time of m.
func (h *Host) time(m moment) time.Time {
	if m == 0 {
		return time.Time{}
	}
	return h.began.Add(time.Duration(m - 1))
}
