package host

import (
	"testing"
	"time"

	"github.com/btns-ipsec/btns/dataplane"
	"github.com/btns-ipsec/btns/dataplane/flow"
	"github.com/btns-ipsec/btns/ikev2"
	"github.com/btns-ipsec/btns/policy"
)

func preferring(c *Config) {}

func requiring(t *testing.T) func(*Config) {
	return func(c *Config) { c.Policy = unknown(t, policy.Unknown{Fallback: policy.Require}) }
}

// The table of ARCHITECTURE.md: what becomes of a peer's traffic, and what the plane is told.
func TestStates(t *testing.T) {
	tests := []struct {
		name  string
		bring func(t *testing.T, w *world) *box
		state PeerState
		plane flow.State
	}{
		{"an unknown address is clear", func(t *testing.T, w *world) *box {
			return w.box("a", addrA)
		}, StateClear, flow.Clear},
		{"it stays clear while it is probed", func(t *testing.T, w *world) *box {
			w.lose = nobody
			a := w.box("a", addrA)
			a.acquire(addrB)
			return a
		}, StateProbing, flow.Clear},
		{"and when nobody answers", func(t *testing.T, w *world) *box {
			w.lose = nobody
			a := w.box("a", addrA)
			a.acquire(addrB)
			w.pass(time.Minute)
			if a.count(ProbeFailed) != 1 || a.count(Outage) != 0 {
				t.Error("a failed probe is told, and is no outage")
			}
			return a
		}, StateClear, flow.Clear},
		{"what policy requires is held while SAs are made", func(t *testing.T, w *world) *box {
			w.lose = nobody
			a := w.box("a", addrA, requiring(t))
			a.acquire(addrB)
			return a
		}, StateNegotiating, flow.Hold},
		{"and stays held when nobody answers", func(t *testing.T, w *world) *box {
			w.lose = nobody
			a := w.box("a", addrA, requiring(t))
			a.acquire(addrB)
			w.pass(3 * time.Minute)
			if a.count(Outage) != 1 {
				t.Error("an outage is told")
			}
			return a
		}, StateOutage, flow.Hold},
		{"clear packets under way come in when an unknown peer becomes protected", func(t *testing.T, w *world) *box {
			a := w.box("a", addrA)
			w.box("b", addrB)
			a.acquire(addrB)
			return a
		}, StateProtected, flow.Upgrade},
		{"for two seconds", func(t *testing.T, w *world) *box {
			a := w.box("a", addrA)
			w.box("b", addrB)
			a.acquire(addrB)
			w.pass(upgradeTime)
			return a
		}, StateProtected, flow.Protect},
		{"or until the first authentic packet", func(t *testing.T, w *world) *box {
			a, b := w.box("a", addrA), w.box("b", addrB)
			a.acquire(addrB)
			a.packet(b)
			b.packet(a)
			return a
		}, StateProtected, flow.Protect},
		{"never where policy requires protection", func(t *testing.T, w *world) *box {
			a := w.box("a", addrA, requiring(t))
			w.box("b", addrB)
			a.acquire(addrB)
			return a
		}, StateProtected, flow.Protect},
		{"a recorded peer is held from the start on", func(t *testing.T, w *world) *box {
			a, _ := w.meet()
			a.boot()
			return a
		}, StateNegotiating, flow.Hold},
		{"is held when it is gone", func(t *testing.T, w *world) *box {
			a, b := w.meet()
			b.kill()
			for range 60 {
				a.packet(b)
				w.pass(time.Second)
			}
			w.pass(3 * time.Minute)
			return a
		}, StateOutage, flow.Hold},
		{"is held when it deletes its SAs", func(t *testing.T, w *world) *box {
			a, b := w.meet()
			b.do(Down{addrA})
			return a
		}, StateNegotiating, flow.Hold},
		{"is held when another key comes", func(t *testing.T, w *world) *box {
			a, b := w.meet()
			b.kill()
			w.box("evil", addrB)
			a.boot()
			a.acquire(addrB)
			return a
		}, StateRefused, flow.Hold},
		{"is clear when it left in good order", func(t *testing.T, w *world) *box {
			a, b := w.meet()
			b.do(Stop{})
			return a
		}, StateClear, flow.Clear},
		{"an unrecorded one is clear again when its SAs are deleted", func(t *testing.T, w *world) *box {
			a, b := w.box("a", addrA), w.box("b", addrB)
			a.acquire(addrB)
			b.do(Down{addrA})
			return a
		}, StateClear, flow.Clear},
		{"the first use of a strict host is refused, and goes in clear where it may", func(t *testing.T, w *world) *box {
			a := w.box("a", addrA, func(c *Config) { c.Trust.Mode = 1 })
			w.box("b", addrB)
			a.acquire(addrB)
			return a
		}, StateClear, flow.Clear},
		{"and is held where it may not", func(t *testing.T, w *world) *box {
			a := w.box("a", addrA, func(c *Config) { c.Trust.Mode = 1 }, requiring(t))
			w.box("b", addrB)
			a.acquire(addrB)
			return a
		}, StateRefused, flow.Hold},
	}
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) {
			c.bring(t, newWorld(t)).want(addrB, c.state, c.plane)
		})
	}
}

// Who has answered waits before it sends: its peer cannot open anything until the answer has come. A packet of the peer
// says so, else a moment is long enough. Meanwhile nothing leaves in clear.
func TestAnswerComesFirst(t *testing.T) {
	for _, c := range []struct {
		name   string
		more   []func(*Config)
		before flow.State
		after  flow.State
		then   func(w *world, a, b *box)
	}{
		{"until the peer sends", nil, flow.Upgrade, flow.Protect, func(_ *world, a, b *box) { a.packet(b) }},
		{"or has had the time to", nil, flow.Upgrade, flow.Upgrade, func(w *world, _, _ *box) { w.pass(answerTime) }},
		{"held where it must be protected", []func(*Config){requiring(t)}, flow.Hold, flow.Protect, func(w *world, _, _ *box) { w.pass(answerTime) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			a, b := w.box("a", addrA), w.box("b", addrB, c.more...)
			a.acquire(addrB)
			b.want(addrA, StateProtected, c.before)
			if len(a.using) != 1 || len(b.using) != 0 {
				t.Fatalf("who began sends under %d pairs, who answered under %d", len(a.using), len(b.using))
			}
			b.acquire(addrA) // what waits asks, and nothing more is made
			c.then(w, a, b)
			b.want(addrA, StateProtected, c.after)
			if len(b.using) != 1 || len(b.sas) != 1 {
				t.Errorf("who answered has %d pairs and sends under %d", len(b.sas), len(b.using))
			}
		})
	}
}

// The child is gone and the IKE SA is not: nothing leaves in clear, and the next packet makes a child under it.
func TestChildOfLivingSA(t *testing.T) {
	w := newWorld(t)
	a, b := w.meet()
	a.plane(dataplane.Spent{ID: a.sole(), Hard: true})
	a.want(addrB, StateNegotiating, flow.Hold)
	before := a.exchanges(ikeSAInit)
	a.acquire(addrB)
	a.want(addrB, StateProtected, flow.Protect)
	if a.exchanges(ikeSAInit) != before || a.exchanges(createChildSA) != 1 {
		t.Fatal("the child was not made under the IKE SA that is there")
	}
	w.talk(a, b)
	w.pass(lingering)
	if a.h.sas.Len() != 1 || b.h.sas.Len() != 1 || len(a.sas) != 1 || len(a.h.reading.list) != 1 {
		t.Fatalf("%d and %d pairs, %d in the plane, %d counted", a.h.sas.Len(), b.h.sas.Len(), len(a.sas), len(a.h.reading.list))
	}
}

// A soft limit rekeys: the old pair lingers inbound for packets in flight (ikev2.md §7.4), then nothing of it is left.
func TestSoftLimitRekeys(t *testing.T) {
	w := newWorld(t)
	a, _ := w.meet()
	a.plane(dataplane.Spent{ID: a.sole()})
	if a.count(Rekeyed) != 1 || len(a.sas) != 2 || len(a.using) != 1 {
		t.Fatalf("%d rekeys, %d pairs in the plane, %d of them in use", a.count(Rekeyed), len(a.sas), len(a.using))
	}
	a.want(addrB, StateProtected, flow.Protect)
	w.pass(lingering)
	if len(a.sas) != 1 || a.h.sas.Len() != 1 {
		t.Fatalf("%d pairs in the plane, %d in the database", len(a.sas), a.h.sas.Len())
	}
	w.pass(countersEvery)
	if len(a.h.reading.list) != 1 {
		t.Fatalf("%d are counted", len(a.h.reading.list))
	}
}

// What names a pair that is not there changes nothing.
func TestUnknownPairs(t *testing.T) {
	w := newWorld(t)
	a, _ := w.meet()
	sent := len(a.sent)
	for _, ev := range []dataplane.Event{
		dataplane.Carried{ID: 99}, dataplane.Spent{ID: 99}, dataplane.Spent{ID: 99, Hard: true}, dataplane.Moved{ID: 99},
	} {
		a.plane(ev)
	}
	a.do(CountersRead{Counters: []dataplane.Counters{{ID: 99, PacketsOut: 7}}})
	a.h.act(w.now, ikev2.ChildUse{Child: 99})
	a.h.act(w.now, ikev2.ChildDown{Child: 99})
	a.h.act(w.now, ikev2.SADown{SA: 99})
	a.h.act(w.now, ikev2.ChildFailed{SA: 99})
	a.h.act(w.now, ikev2.ChildUp{SA: 99})
	a.h.act(w.now, ikev2.SAMoved{SA: 99})
	if len(a.sent) != sent {
		t.Fatal("something was sent")
	}
	a.want(addrB, StateProtected, flow.Protect)
}
