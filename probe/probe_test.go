package probe

import (
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var (
	t0 = time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)
	a1 = netip.MustParseAddr("203.0.113.1")
)

func minutes(ns ...int) (list []time.Duration) {
	for _, n := range ns {
		list = append(list, time.Duration(n)*time.Minute)
	}
	return list
}

func nth(i int) netip.Addr { return netip.AddrFrom4([4]byte{11, byte(i >> 16), byte(i >> 8), byte(i)}) }

// design.md, probing is polite: never to what is not one host elsewhere.
func TestScope(t *testing.T) {
	lan := netip.MustParsePrefix("192.0.2.0/24")
	for _, tc := range []struct {
		addr             string
		all, local, list bool
	}{
		{"203.0.113.1", true, false, true},
		{"::ffff:203.0.113.1", true, false, true},
		{"192.0.2.9", true, true, false},
		{"2001:db8::1", true, false, false},
		{"192.0.2.255", false, false, false},
		{"192.0.2.0", false, false, false},
		{"255.255.255.255", false, false, false},
		{"240.0.0.1", false, false, false},
		{"0.0.0.0", false, false, false},
		{"0.1.2.3", false, false, false},
		{"127.0.0.1", false, false, false},
		{"224.0.0.1", false, false, false},
		{"169.254.1.1", false, false, false},
		{"::", false, false, false},
		{"::1", false, false, false},
		{"fe80::1%eth0", false, false, false},
		{"ff02::1", false, false, false},
	} {
		for mode, want := range map[Mode]bool{All: tc.all, Local: tc.local, Listed: tc.list, 9: false} {
			p := New(Config{})
			p.SetLocal([]netip.Prefix{lan})
			p.SetScope(Scope{Mode: mode, List: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}})
			if got := p.Want(t0, netip.MustParseAddr(tc.addr)); got != want {
				t.Errorf("%s in scope %d: %v", tc.addr, mode, got)
			}
		}
	}
	if New(Config{}).Want(t0, netip.Addr{}) {
		t.Error("no address")
	}
}

// What was learnt is believed for a time that grows, and never too long.
func TestBackOff(t *testing.T) {
	for _, tc := range []struct {
		name   string
		result Result
		pauses []time.Duration
	}{
		{"silence", Silent, minutes(1, 4, 16, 60, 60)},
		{"refusal", Refuses, minutes(1, 2, 4, 8, 16, 32, 60, 60)},
		{"incompatible", Incompatible, minutes(1, 2, 4, 8, 16, 32, 60, 60)},
		{"unwanted", Unwanted, minutes(1, 2, 4, 8, 16, 32, 60, 60)},
		{"no route", Unreachable, minutes(1, 2, 4, 8, 16, 32, 60, 60)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, now := New(Config{}), t0
			for i, pause := range tc.pauses {
				if !p.Want(now, a1) {
					t.Fatalf("try %d is not allowed", i)
				}
				if p.Want(now, a1) {
					t.Fatal("tried twice at once")
				}
				p.Note(now, a1, tc.result, 14)
				if s := p.Status(a1); s.Result != tc.result || s.Notify != 14 || s.Tries != i+1 || !s.Until.Equal(now.Add(pause)) {
					t.Fatalf("try %d: %+v", i, s)
				}
				if p.Want(now.Add(pause-1), a1) {
					t.Fatal("too early")
				}
				now = now.Add(pause)
			}
			p.Heard(now, a1)
			if s := p.Status(a1); s.Result != 0 || !p.Want(now, a1) {
				t.Fatalf("a valid message clears it: %+v", s)
			}
			p.Note(now, a1, Answers, 0)
			p.Heard(now, a1)
			if s := p.Status(a1); s.Result != Answers || !p.Want(now, a1) {
				t.Fatalf("%+v", s)
			}
		})
	}
}

// An attempt that nobody ended, and failures of long ago.
func TestForgetting(t *testing.T) {
	p := New(Config{})
	p.Want(t0, a1)
	if p.Want(t0.Add(underway-1), a1) || !p.Want(t0.Add(underway), a1) {
		t.Fatal("an attempt is under way for a minute")
	}
	for range 4 {
		p.Note(t0, a1, Silent, 0)
	}
	if !p.Want(t0.Add(25*time.Hour), a1) {
		t.Fatal("not allowed")
	}
	if p.Note(t0.Add(25*time.Hour), a1, Silent, 0); p.Status(a1).Tries != 1 {
		t.Fatalf("%+v", p.Status(a1))
	}
}

// 10,000 destinations at once: bounded rate, bounded memory, and the queue gets its turn.
func TestManyDestinations(t *testing.T) {
	p := New(Config{Max: 500, Queue: 100})
	tried := 0
	for i := range 10_000 {
		if p.Want(t0, nth(i)) {
			tried++
		}
	}
	if tried != 20 || p.Len() != 20 || len(p.wished) != 100 {
		t.Fatalf("%d tried, %d remembered, %d wait", tried, p.Len(), len(p.wished))
	}
	now := t0
	for turn := range 100 {
		at, ok := p.Deadline()
		if !ok || !at.After(now) {
			t.Fatalf("turn %d: %v after %v", turn, at, now)
		}
		now = at
		a, ok := p.Next(now)
		if !ok || a != nth(20+turn) {
			t.Fatalf("turn %d: %v %v", turn, a, ok)
		}
		if _, ok := p.Next(now); ok {
			t.Fatal("two at once")
		}
	}
	if d := now.Sub(t0); d < 4900*time.Millisecond || d > 5500*time.Millisecond {
		t.Fatalf("100 addresses took %v", d)
	}
	if _, ok := p.Deadline(); ok {
		t.Fatal("nothing waits")
	}
	for i := range 10_000 {
		p.Note(now, nth(i), Silent, 0)
	}
	if p.Len() != 500 || len(p.table.slots) != 501 {
		t.Fatalf("%d remembered", p.Len())
	}
}

func TestStaleWish(t *testing.T) {
	p := New(Config{Rate: 1})
	p.Want(t0, a1)
	p.Want(t0, nth(1))
	if a, ok := p.Next(t0.Add(time.Minute)); ok {
		t.Fatalf("%v: its packets are long gone", a)
	}
}

// Whatever happens and in whatever order: no more attempts than the rate allows, and none during a pause.
func TestPoliteInAnyOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, now := New(Config{Rate: 2, Max: 4, Queue: 3}), t0
		var times []time.Time
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 2000).Draw(t, "ms")) * time.Millisecond)
			a := nth(rapid.IntRange(0, 5).Draw(t, "addr"))
			before := p.Status(a)
			switch rapid.IntRange(0, 6).Draw(t, "op") {
			case 0:
				p.Note(now, a, Answers, 0)
			case 1:
				p.Note(now, a, Silent, 0)
			case 2:
				p.Note(now, a, Refuses, 0)
			case 3:
				p.Heard(now, a)
			case 4:
				if b, ok := p.Next(now); ok {
					times = append(times, now)
					if p.Status(b).Result != Trying {
						t.Fatalf("%+v", p.Status(b))
					}
				}
			default:
				if p.Want(now, a) {
					times = append(times, now)
					if now.Before(before.Until) {
						t.Fatalf("tried during the pause: %+v", before)
					}
				}
			}
			if p.Len() > 4 || len(p.table.slots) > 5 || len(p.fresh) > 3 || len(p.again) > 3 || len(p.wished) != len(p.fresh)+len(p.again) {
				t.Fatal("unbounded")
			}
		}
		for i := range times {
			for j := i; j < len(times); j++ {
				if n, d := j-i+1, times[j].Sub(times[i]); float64(n) > 2+2*d.Seconds()+0.001 {
					t.Fatalf("%d attempts in %v", n, d)
				}
			}
		}
	})
}
