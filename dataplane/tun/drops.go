package tun

import (
	"net/netip"
	"sync"
	"time"

	"github.com/btns-ipsec/btns/dataplane"
	"github.com/btns-ipsec/btns/dataplane/flow"
)

// maxRemotes bounds what is remembered of remote addresses that anybody can make up.
const maxRemotes = 1024

const perSecond = int64(time.Second)

// limiter allows one event per address and second. When it is full it forgets, and then allows one per second in all.
type limiter struct {
	mu   sync.Mutex
	last map[netip.Addr]int64
	full int64
}

func (l *limiter) allow(a netip.Addr, now int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t, ok := l.last[a]; ok && now-t < perSecond {
		return false
	}
	if len(l.last) >= maxRemotes {
		if now-l.full < perSecond {
			return false
		}
		l.full = now
		clear(l.last)
	}
	if l.last == nil {
		l.last = make(map[netip.Addr]int64)
	}
	l.last[a] = now
	return true
}

type dropKey struct {
	remote netip.Addr
	reason flow.Reason
}

type dropCount struct {
	n      uint64
	sample flowKey
	said   int64
}

// dropped gathers dropped packets into events, one per remote, reason and second.
type dropped struct {
	sink  func(dataplane.Event)
	mu    sync.Mutex
	by    map[dropKey]*dropCount
	total [flow.Reasons]uint64
	timer *time.Timer
	ended bool
}

func (d *dropped) add(now int64, remote netip.Addr, why flow.Reason, sample flowKey) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.total[why]++
	key := dropKey{remote, why}
	c := d.by[key]
	if c == nil {
		if len(d.by) >= maxRemotes { // a flood from made-up addresses counts as one
			key.remote = netip.Addr{}
			c = d.by[key]
		}
		if c == nil {
			if d.by == nil {
				d.by = make(map[dropKey]*dropCount)
			}
			c = &dropCount{}
			d.by[key] = c
		}
	}
	if c.n == 0 {
		c.sample = sample
	}
	c.n++
	if now-c.said >= perSecond {
		d.say(key, c, now)
	}
	d.wake()
}

func (d *dropped) say(key dropKey, c *dropCount, now int64) {
	if !d.ended {
		d.sink(dataplane.Dropped{Remote: key.remote, Reason: key.reason, Count: c.n, Sample: c.sample})
	}
	c.n, c.said = 0, now
}

// wake sees to it that the last packets of a row are told too, and the row forgotten.
func (d *dropped) wake() {
	switch {
	case d.ended:
	case d.timer == nil:
		d.timer = time.AfterFunc(time.Second, d.tick)
	}
}

func (d *dropped) tick() {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now().UnixNano()
	for key, c := range d.by {
		switch {
		case now-c.said < perSecond:
		case c.n > 0:
			d.say(key, c, now)
		default:
			delete(d.by, key)
		}
	}
	if d.timer = nil; len(d.by) > 0 {
		d.wake()
	}
}

func (d *dropped) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ended = true
	if d.timer != nil {
		d.timer.Stop()
	}
}
