package sim

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/dataplane/flow"
	"github.com/btns-ipsec/btns/host"
)

// seeds are those of the scenes below; each scene runs on all of them.
func seeds(t *testing.T, n uint64, scene func(t *testing.T, seed uint64)) {
	for seed := uint64(1); seed <= n; seed++ {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) { scene(t, seed) })
	}
}

// bad is a wire with everything that a wire may do.
var bad = Link{Delay: 20 * time.Millisecond, Jitter: 30 * time.Millisecond, Loss: 0.15, Duplicate: 0.05}

// Two hosts that know nothing of each other: the first packet goes in clear, then traffic is protected.
func TestFirstContact(t *testing.T) {
	seeds(t, 20, func(t *testing.T, seed uint64) {
		w := New(t, seed)
		a, b := w.Host("a"), w.Host("b")
		w.SetLink(bad)
		w.After(0, func() { a.Send(b) })
		w.RunUntil(time.Minute, "both protected", func() bool {
			return a.Protected(b) && b.Protected(a)
		})
		w.SetLink(Link{Delay: 5 * time.Millisecond})
		w.Run(10 * time.Second)
		w.CheckWorks(a, b)
		w.CheckOnePair(a, b)
	})
}

// Both begin at once, over a bad wire: one SA pair is left (ikev2.md §7.3).
func TestCrossing(t *testing.T) {
	seeds(t, 40, func(t *testing.T, seed uint64) {
		w := New(t, seed)
		a, b := w.Host("a"), w.Host("b")
		w.SetLink(bad)
		w.After(0, func() { a.Send(b); b.Send(a) })
		w.RunUntil(time.Minute, "both protected", func() bool { return a.Protected(b) && b.Protected(a) })
		chatter(w, 40*time.Second, a, b)
		w.SetLink(Link{Delay: 5 * time.Millisecond})
		chatter(w, 30*time.Second, a, b)
		w.CheckWorks(a, b)
		w.CheckOnePair(a, b)
	})
}

// A host that loses its memory of SAs, but not its store, is reached again within ten seconds while the other sends.
func TestRestart(t *testing.T) {
	seeds(t, 20, func(t *testing.T, seed uint64) {
		w := New(t, seed)
		a, b := w.Host("a"), w.Host("b")
		w.After(0, func() { a.Send(b) })
		w.RunUntil(time.Minute, "both protected", func() bool { return a.Protected(b) && b.Protected(a) })
		chatter(w, 5*time.Second, a, b)
		b.Kill()
		chatter(w, time.Second, a, b)
		b.Boot()
		got := func() int { return b.tally(a.Addr).Protected }
		before := got()
		for range 10 {
			chatter(w, time.Second, a, b)
		}
		if got() == before {
			w.Fail("nothing arrives ten seconds after the restart")
		}
		if b.tally(a.Addr).Clear > 1 {
			w.Fail("clear packets came in from a recorded peer")
		}
		chatter(w, 30*time.Second, a, b)
		w.CheckWorks(a, b)
		w.CheckOnePair(a, b)
	})
}

// The same when the restarted host has nothing to send of its own: what it cannot open tells it.
func TestRestartOfListener(t *testing.T) {
	w := New(t, 4)
	a, b := meet(w)
	b.Kill()
	b.Boot()
	before := b.tally(a.Addr).Protected
	for range 20 {
		a.Send(b)
		w.Run(500 * time.Millisecond)
	}
	if b.tally(a.Addr).Protected == before {
		w.Fail("nothing arrives ten seconds after the restart")
	}
}

// A host without btns is spoken to in clear, and asked at most three times (design.md: probing is polite).
func TestStranger(t *testing.T) {
	w := New(t, 1)
	a, mute := w.Host("a"), w.Host("mute")
	mute.Kill()
	w.After(0, func() { a.Send(mute) })
	w.Run(time.Minute)
	if asked := strings.Count(w.Ladder(), "IKE_SA_INIT"); asked == 0 || asked > 3 {
		w.Fail("%d probes, want 1 to 3", asked)
	}
	a.Send(mute)
	w.Run(time.Minute)
	if a.Protected(mute) {
		w.Fail("protected with nobody")
	}
	w.CheckNoPromises(a)
}

// Another key at a recorded address is refused, and nothing goes in clear (BTNS-TRUST-30).
func TestImpostor(t *testing.T) {
	w := New(t, 7)
	a, b := w.Host("a"), w.Host("b")
	w.After(0, func() { a.Send(b) })
	w.RunUntil(time.Minute, "both protected", func() bool { return a.Protected(b) && b.Protected(a) })
	chatter(w, 5*time.Second, a, b)
	b.Kill()
	delete(w.byAddr, b.Addr)
	evil := w.Host("evil")
	delete(w.byAddr, evil.Addr)
	evil.Addr = b.Addr
	w.byAddr[b.Addr] = evil
	for range 60 {
		a.Send(b)
		w.Run(time.Second)
	}
	if a.Reports[host.KeyChanged] == 0 {
		w.Fail("the changed key was not reported")
	}
	if tally := evil.tally(a.Addr); tally.Protected+tally.Clear > 0 {
		w.Fail("the impostor received %+v", *tally)
	}
}

// The check that no packet leaves in clear is able to fail: a decider that passes what must be sealed is caught.
func TestBrokenDeciderIsCaught(t *testing.T) {
	caught := &recorder{}
	w := New(caught, 3)
	a, b := w.Host("a"), w.Host("b")
	a.Decide = func(v flow.Verdict) flow.Verdict {
		if v.Action == flow.Seal {
			v.Action = flow.Pass
		}
		return v
	}
	w.After(0, func() { a.Send(b) })
	func() {
		defer func() {
			if _, ok := recover().(caughtIt); !ok {
				t.Log("the world ended without a failure")
			}
		}()
		chatter(w, time.Minute, a, b)
	}()
	if !strings.Contains(caught.text, "leave in clear") || !strings.Contains(caught.text, "seed 3") || !strings.Contains(caught.text, "IKE_AUTH") {
		t.Fatalf("not caught, or without seed and ladder: %q", caught.text)
	}
}

// The same seed gives the same trace twice, another one another.
func TestSameSeedSameTrace(t *testing.T) {
	run := func(seed uint64) uint64 {
		w := New(t, seed)
		w.SetLink(bad)
		var nodes []*Node
		for i := range 5 {
			nodes = append(nodes, w.Host(fmt.Sprint("n", i)))
		}
		w.After(0, func() {
			for i, n := range nodes {
				n.Send(nodes[(i+1)%len(nodes)])
			}
		})
		chatter(w, 30*time.Second, nodes...)
		return w.Trace()
	}
	a, b, c := run(11), run(11), run(12)
	if a != b || a == c {
		t.Fatalf("traces %x, %x of one seed and %x of another", a, b, c)
	}
}

// chatter lets d pass while all send to each other.
func chatter(w *World, d time.Duration, nodes ...*Node) {
	for end := w.now.Add(d); w.now.Before(end); w.Run(500 * time.Millisecond) {
		for _, from := range nodes {
			for _, to := range nodes {
				if from != to {
					from.Send(to)
				}
			}
		}
	}
}

type recorder struct{ text string }

// caughtIt is what a failing recorder panics with: Fatalf does not return.
type caughtIt struct{}

func (r *recorder) Helper() {}
func (r *recorder) Fatalf(format string, args ...any) {
	r.text = fmt.Sprintf(format, args...)
	panic(caughtIt{})
}

// A peer that falls silent while we send to it is noticed (RFC 7296 §2.4), and what it must not read in clear waits.
func TestSilence(t *testing.T) {
	w := New(t, 6)
	a, b := meet(w)
	b.Kill()
	for range 120 {
		a.Send(b)
		w.Run(500 * time.Millisecond)
	}
	if a.Protected(b) {
		w.Fail("a still takes a dead peer for a live one after a minute")
	}
}
