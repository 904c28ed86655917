package probe

import (
	"net/netip"
	"runtime"
	"testing"
	"time"
)

// A host without btns that is spoken to all the time costs no more than an attempt an hour in the long run, whatever its
// silence looks like.
func TestAnHourInTheLongRun(t *testing.T) {
	const days = 7
	for _, r := range []Result{Silent, Refuses, Incompatible, Unwanted, Unreachable} {
		p, tries, last := New(Config{}), 0, 0
		for s := range days * 24 * 3600 {
			now := t0.Add(time.Duration(s) * time.Second)
			if p.Want(now, a1) {
				tries++
				p.Note(now.Add(3*time.Second), a1, r, 0)
				if s >= 6*24*3600 {
					last++
				}
			}
		}
		t.Logf("%v: %d attempts in %d days, %d of them on the last day", r, tries, days, last)
		if tries > 24*days+7 || last > 24 { // the first ones come sooner
			t.Errorf("%v: %d attempts in %d days, %d on the last", r, tries, days, last)
		}
	}
}

// A million new destinations at once, and the same ones again and again: the rate holds, memory is bounded and small, and
// an address that gave way to others is tried no sooner than if it had been remembered.
func TestMillionDestinations(t *testing.T) {
	if testing.Short() {
		t.Skip("a million addresses for more than an hour of their time")
	}
	const many = 1_000_000
	addrs := make([]netip.Addr, many)
	for i := range addrs {
		addrs[i] = nth(i)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	p, began := New(Config{}), t0
	tried := make([]time.Duration, many) // when last, from the beginning and not zero
	attempts, hasty := 0, 0
	note := func(now time.Time, a netip.Addr) {
		attempts++
		b := a.As4()
		i := int(b[1])<<16 | int(b[2])<<8 | int(b[3])
		at := now.Sub(began) + 1
		if last := tried[i]; last != 0 && at-last < time.Minute {
			hasty++
		}
		tried[i] = at
		p.Note(now.Add(3*time.Second), a, Silent, 0)
	}
	now := began
	const length = 70 * time.Minute
	for i := 0; now.Sub(began) < length; {
		for range 50 { // packets to 500 addresses a second, over and over
			if a := addrs[i%many]; p.Want(now, a) {
				note(now, a)
			}
			i++
		}
		for a, ok := p.Next(now); ok; a, ok = p.Next(now) {
			note(now, a)
		}
		now = now.Add(100 * time.Millisecond)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	used := int64(after.HeapAlloc) - int64(before.HeapAlloc) - many*8
	rate := float64(attempts) / length.Seconds()
	t.Logf("%d destinations, %d attempts in %v: %.2f a second; %d remembered, %d octets each, %.1f MiB; %+v",
		many, attempts, length, rate, p.Len(), used/int64(p.Len()), float64(used)/(1<<20), p.Stats())
	if rate > defaultRate+0.1 || hasty > 0 {
		t.Errorf("%.2f attempts a second, %d within a minute of the one before", rate, hasty)
	}
	if p.Len() > 72_000 || len(p.wished) > 2*defaultQueue || used > 16<<20 {
		t.Errorf("%d remembered, %d wait, %d octets", p.Len(), len(p.wished), used)
	}
	runtime.KeepAlive(addrs)
	runtime.KeepAlive(tried)
	runtime.KeepAlive(p)
}

// 10,000 destinations at once: what is sent, and for how long it is remembered.
func TestTenThousandAtOnce(t *testing.T) {
	p, now, tried := New(Config{}), t0, 0
	for tick := range 600 { // a packet to each of them every second, for a minute
		for i := tick % 10; i < 10_000; i += 10 {
			if p.Want(now, nth(i)) {
				tried++
				p.Note(now, nth(i), Silent, 0)
			}
		}
		for a, ok := p.Next(now); ok; a, ok = p.Next(now) {
			tried++
			p.Note(now, a, Silent, 0)
		}
		now = now.Add(100 * time.Millisecond)
	}
	t.Logf("%d tried in a minute, %d wait; at 3 datagrams of 600 octets that is %d octets a second", tried, len(p.wished), tried*1800/60)
	if tried > 20*60+20 || tried < 20*60-40 {
		t.Errorf("%d tried in a minute", tried)
	}
}

// The table keeps the order of change when addresses leave it from the middle.
func TestForgottenSlotsAreUsedAgain(t *testing.T) {
	p := New(Config{Max: 3})
	for i := range 3 {
		p.Note(t0, nth(i), Silent, 0)
	}
	p.Heard(t0, nth(1))
	p.Note(t0, nth(3), Silent, 0)
	p.Note(t0, nth(0), Silent, 0) // now the newest
	p.Note(t0, nth(4), Silent, 0)
	for i, want := range []int{2, 0, 0, 1, 1} {
		if got := p.Status(nth(i)).Tries; got != want {
			t.Errorf("address %d: %d tries remembered, want %d", i, got, want)
		}
	}
	if len(p.table.slots) != 4 {
		t.Errorf("%d slots", len(p.table.slots))
	}
}
