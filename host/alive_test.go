package host

import (
	"strings"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/dataplane/flow"
)

// BTNS-TRUST-14: the record of a session that carries packets does not age, however long the session lives; that of one
// that carries none does.
func TestRecordsInUseStay(t *testing.T) {
	for _, busy := range []bool{true, false} {
		w := newWorld(t)
		a, b := w.meet(func(c *Config) { c.Trust.Life = 3 * time.Hour })
		met := w.now
		for range 6 * 6 {
			if busy {
				a.packet(b)
				b.packet(a)
			}
			w.pass(10 * time.Minute)
		}
		if (len(a.store) == 1) != busy {
			t.Fatalf("packets %v: %d records after six hours\n%s", busy, len(a.store), a.story())
		}
		if !busy {
			continue
		}
		for _, r := range a.store {
			if age := w.now.Sub(r.LastSeen); age > 90*time.Minute || !r.LastSeen.After(met) {
				t.Fatalf("the store says last seen %v ago", age)
			}
			if r.Sessions != 1 {
				t.Fatalf("one session is counted as %d", r.Sessions)
			}
		}
		a.kill()
		a.boot()
		a.want(addrB, StateNegotiating, flow.Hold)
	}
}

// Without sessions there is nothing to keep, and no alarm for it.
func TestNoSessionsNoKeeping(t *testing.T) {
	w := newWorld(t)
	a, _ := w.meet()
	if !a.h.alarms.keeping {
		t.Fatal("nothing keeps the record of a session")
	}
	a.do(Down{addrB})
	w.pass(2 * aliveEvery)
	if a.h.alarms.keeping {
		t.Fatal("the alarm rings without sessions")
	}
}

// A plane tells of packets by the clock on the wall. It may be set, or have gone on while the machine slept: a packet is never
// later than now, and no older than the wall says.
func TestPacketsByTheWallClock(t *testing.T) {
	now := time.Now()
	for name, c := range map[string]struct {
		wall time.Time
		ago  time.Duration
	}{
		"unknown":        {time.Time{}, 0},
		"just now":       {now.Round(0), 0},
		"a while ago":    {now.Round(0).Add(-5 * time.Second), 5 * time.Second},
		"set back since": {now.Round(0).Add(8 * time.Hour), 0},
	} {
		if got := told(now, c.wall); now.Sub(got) != c.ago {
			t.Errorf("%s: %v ago, not %v", name, now.Sub(got), c.ago)
		} else if !strings.Contains(got.String(), " m=") {
			t.Errorf("%s: %v cannot be compared with the times of this host", name, got)
		}
	}
}
