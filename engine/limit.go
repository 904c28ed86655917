package engine

import (
	"net/netip"
	"time"

	"github.com/btns-ipsec/btns/host"
)

// In a window, so many reports of one kind and reason about one peer are shown; the rest are counted and the last of
// them is shown at its end.
const (
	window     = 10 * time.Second
	burst      = 5
	maxWindows = 8192
)

type limitKey struct {
	remote netip.Addr
	kind   host.Kind
	reason host.Reason
}

type limitWindow struct {
	key    limitKey
	ends   time.Time
	shown  int
	hidden uint64
	last   host.Report // of the hidden ones
}

// shown is a report that is to be told, and how many similar ones were not.
type shown struct {
	host.Report
	similar uint64
}

// limiter holds the windows that are open, oldest first: all are equally long.
type limiter struct {
	open  map[limitKey]*limitWindow
	order []*limitWindow
}

// admit appends r to out if it is to be told; windows that had to give way come first.
func (l *limiter) admit(now time.Time, r host.Report, out []shown) []shown {
	out = l.expire(now, out)
	k := limitKey{r.Remote, r.Kind, r.Reason}
	w := l.open[k]
	if w == nil {
		if l.open == nil {
			l.open = make(map[limitKey]*limitWindow)
		}
		if len(l.order) >= maxWindows {
			out = l.end(out)
		}
		w = &limitWindow{key: k, ends: now.Add(window)}
		l.open[k] = w
		l.order = append(l.order, w)
	}
	if w.shown < burst {
		w.shown++
		return append(out, shown{Report: r})
	}
	w.hidden++
	w.last = r
	return out
}

// expire ends the windows whose time has come.
func (l *limiter) expire(now time.Time, out []shown) []shown {
	for len(l.order) > 0 && !l.order[0].ends.After(now) {
		out = l.end(out)
	}
	return out
}

func (l *limiter) end(out []shown) []shown {
	w := l.order[0]
	l.order[0] = nil
	l.order = l.order[1:]
	if delete(l.open, w.key); len(l.open) == 0 {
		l.open, l.order = nil, nil // as large as there were peers at once
	}
	if w.hidden > 0 {
		out = append(out, shown{w.last, w.hidden - 1})
	}
	return out
}

func (l *limiter) deadline() (time.Time, bool) {
	if len(l.order) == 0 {
		return time.Time{}, false
	}
	return l.order[0].ends, true
}
