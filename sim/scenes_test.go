package sim

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/dataplane"
	"github.com/btns-ipsec/btns/dataplane/flow"
	"github.com/btns-ipsec/btns/host"
	"github.com/btns-ipsec/btns/protect"
)

// meet makes two nodes that are protected and have exchanged packets.
func meet(w *World) (a, b *Node) {
	a, b = w.Host("a"), w.Host("b")
	w.After(0, func() { a.Send(b) })
	w.RunUntil(time.Minute, "both protected", func() bool { return a.Protected(b) && b.Protected(a) })
	chatter(w, 5*time.Second, a, b)
	return a, b
}

// spend tells a node's host that its pairs have reached their soft limit.
func (n *Node) spend() {
	for _, c := range n.readCounters() {
		n.step(host.FromPlane{Event: dataplane.Spent{ID: c.ID}})
	}
}

// Both sides rekey the child at once, over a bad wire: no packet is lost to it on a good one, and one pair is left
// (RFC 7296 §2.8.1).
func TestChildRekeyCollision(t *testing.T) {
	seeds(t, 30, func(t *testing.T, seed uint64) {
		w := New(t, seed)
		a, b := meet(w)
		if seed%2 == 0 {
			w.SetLink(bad)
		}
		w.After(0, a.spend)
		w.After(time.Duration(seed%5)*4*time.Millisecond, b.spend)
		chatter(w, 40*time.Second, a, b)
		w.SetLink(Link{Delay: 5 * time.Millisecond})
		chatter(w, 30*time.Second, a, b)
		w.CheckWorks(a, b)
		w.CheckOnePair(a, b)
	})
}

// IKE SAs with short lives are rekeyed from both sides, again and again, under traffic (RFC 7296 §2.8).
func TestIKERekey(t *testing.T) {
	seeds(t, 10, func(t *testing.T, seed uint64) {
		w := New(t, seed)
		short := func(c *host.Config) {
			c.IKE.Lifetime = protect.Lifetime{Soft: protect.Limits{Time: 20 * time.Second}, Hard: protect.Limits{Time: 60 * time.Second}, Jitter: 2 * time.Second}
		}
		a, b := w.Host("a", short), w.Host("b", short)
		w.SetLink(Link{Delay: 20 * time.Millisecond, Jitter: 30 * time.Millisecond, Loss: 0.05})
		w.After(0, func() { a.Send(b) })
		w.RunUntil(time.Minute, "both protected", func() bool { return a.Protected(b) && b.Protected(a) })
		chatter(w, 5*time.Minute, a, b)
		w.SetLink(Link{Delay: 5 * time.Millisecond})
		chatter(w, 30*time.Second, a, b)
		w.CheckWorks(a, b)
		w.CheckOnePair(a, b)
		if a.Reports[host.Rekeyed]+b.Reports[host.Rekeyed] < 4 {
			w.Fail("rekeyed only %d times", a.Reports[host.Rekeyed]+b.Reports[host.Rekeyed])
		}
	})
}

// A wire that is cut and joined again: the SAs survive, or new ones come; nothing goes in clear in between.
func TestPartition(t *testing.T) {
	seeds(t, 10, func(t *testing.T, seed uint64) {
		w := New(t, seed)
		a, b := meet(w)
		w.Cut(a, b, true)
		chatter(w, time.Duration(seed)*20*time.Second, a, b)
		w.Cut(a, b, false)
		chatter(w, 2*time.Minute, a, b)
		w.CheckWorks(a, b)
		w.CheckOnePair(a, b)
	})
}

// A node that gets another address is reached there under new SAs.
func TestAddressChange(t *testing.T) {
	w := New(t, 5)
	a, b := meet(w)
	b.Move(netip.MustParseAddr("203.0.113.77"))
	chatter(w, 30*time.Second, a, b)
	w.CheckWorks(a, b)
	w.CheckOnePair(a, b)
}

// A node that stops in good order is spoken to in clear afterwards; that is no downgrade (design.md: sticky without
// lock-out).
func TestLeaving(t *testing.T) {
	w := New(t, 9)
	a, b := meet(w)
	b.Shutdown()
	w.Run(5 * time.Second)
	if s, _, _ := a.table.State(b.Addr); s != flow.Clear {
		w.Fail("the prefix of a peer that left is in state %v", s)
	}
}

// Two to five nodes, everybody with everybody, in every kind of weather: one working pair for every two.
func TestCrowds(t *testing.T) {
	seeds(t, 100, func(t *testing.T, seed uint64) {
		w := New(t, seed)
		var nodes []*Node
		for i := range 2 + seed%4 {
			nodes = append(nodes, w.Host(fmt.Sprint("n", i)))
		}
		if seed%3 != 0 {
			w.SetLink(bad)
		}
		chatter(w, 20*time.Second, nodes...)
		switch seed % 4 {
		case 1:
			nodes[0].Kill()
			chatter(w, 3*time.Second, nodes...)
			nodes[0].Boot()
		case 2:
			w.After(0, nodes[0].spend)
			w.After(0, nodes[1].spend)
		case 3:
			w.Cut(nodes[0], nodes[1], true)
			chatter(w, 15*time.Second, nodes...)
			w.Cut(nodes[0], nodes[1], false)
		}
		chatter(w, 60*time.Second, nodes...)
		w.SetLink(Link{Delay: 5 * time.Millisecond})
		chatter(w, 60*time.Second, nodes...)
		for i, a := range nodes {
			for _, b := range nodes[i+1:] {
				w.CheckWorks(a, b)
				w.CheckOnePair(a, b)
			}
		}
		w.CheckNoPromises(nodes...)
	})
}

// A thousand nodes with at least three peers each.
func TestThousand(t *testing.T) {
	const n = 1000
	w := New(t, 1000)
	nodes := make([]*Node, n)
	for i := range nodes {
		nodes[i] = w.Host(fmt.Sprint("n", i))
	}
	w.SetLink(Link{Delay: 20 * time.Millisecond, Jitter: 20 * time.Millisecond, Loss: 0.02})
	peers := func(i int) []*Node { // a ring with chords: six peers each, three of them begun by the node itself
		return []*Node{nodes[(i+1)%n], nodes[(i+37)%n], nodes[(i+411)%n]}
	}
	talk := func() {
		for i, a := range nodes {
			for _, b := range peers(i) {
				a.Send(b)
				b.Send(a)
			}
		}
	}
	for range 15 {
		talk()
		w.Run(2 * time.Second)
	}
	w.SetLink(Link{Delay: 5 * time.Millisecond})
	for range 15 {
		talk()
		w.Run(2 * time.Second)
	}
	for i, a := range nodes {
		for _, b := range peers(i) {
			w.CheckWorks(a, b)
			w.CheckOnePair(a, b)
		}
	}
}

// noticed is how long a peer may be gone before the first packet that it does not answer has led to its end.
const noticed = 15 * time.Second

// gone waits for a to see that b is gone, and returns how long that took while a sends every half second.
func gone(w *World, a, b *Node) time.Duration {
	began := w.now
	for a.Reports[host.Unprotected] == 0 && a.Reports[host.KeyChanged] == 0 && w.now.Sub(began) < time.Minute {
		a.Send(b)
		w.Run(500 * time.Millisecond)
	}
	return w.now.Sub(began)
}

// A peer that dies under traffic, or after a pause, is noticed within 15 seconds of the first packet that it does not
// answer (RFC 7296 §2.4).
func TestSilenceIsNoticedSoon(t *testing.T) {
	seeds(t, 30, func(t *testing.T, seed uint64) {
		w := New(t, seed)
		a, b := meet(w)
		w.Run(time.Duration(seed) * 170 * time.Millisecond) // some die while nothing is sent
		b.Kill()
		if seed%3 == 0 {
			w.Run(time.Duration(seed) * time.Second)
		}
		if d := gone(w, a, b); d > noticed {
			w.Fail("noticed after %v", d)
		}
	})
}

// The same while a rekey waits for an answer: there is one request at a time, and it is as good as a check.
func TestSilenceWhileRekeying(t *testing.T) {
	w := New(t, 8)
	a, b := meet(w)
	b.Kill()
	a.spend()
	if d := gone(w, a, b); d > noticed {
		w.Fail("noticed after %v", d)
	}
}

// A peer that another machine has taken the place of is found out within 15 seconds, whichever side speaks.
func TestReplacedPeerIsNoticedSoon(t *testing.T) {
	seeds(t, 20, func(t *testing.T, seed uint64) {
		w := New(t, seed)
		a, b := meet(w)
		b.Kill()
		delete(w.byAddr, b.Addr)
		evil := w.Host("evil")
		delete(w.byAddr, evil.Addr)
		evil.Addr = b.Addr
		w.byAddr[b.Addr] = evil
		began := w.now
		for a.Reports[host.KeyChanged] == 0 {
			a.Send(b)
			w.Run(500 * time.Millisecond)
			if d := w.now.Sub(began); d > noticed {
				w.Fail("not found out within %v", d)
			}
		}
	})
}

// Whoever only listens is asked now and then, answers, and stays.
func TestOneWayTraffic(t *testing.T) {
	seeds(t, 10, func(t *testing.T, seed uint64) {
		w := New(t, seed)
		a, b := meet(w)
		asked := w.ikeSent
		for range 600 {
			a.Send(b)
			w.Run(500 * time.Millisecond)
		}
		if a.Reports[host.Unprotected] > 0 {
			w.Fail("the peer was given up")
		}
		if n := w.ikeSent - asked; n < 5 || n > 2*60 { // each check is two messages
			w.Fail("%d messages in five minutes", n)
		}
		w.CheckOnePair(a, b)
	})
}

// A packet that is lost while nothing else goes on is no reason to end anything (RFC 7296 §2.4), even if the first
// checks are lost, too.
func TestOneLostPacket(t *testing.T) {
	seeds(t, 20, func(t *testing.T, seed uint64) {
		w := New(t, seed)
		a, b := meet(w)
		w.Run(time.Minute)
		w.SetLink(Link{Loss: 1})
		a.Send(b)
		w.Run(time.Duration(seed%7) * time.Second)
		w.SetLink(Link{Delay: 5 * time.Millisecond})
		w.Run(time.Minute)
		if a.Reports[host.Unprotected]+b.Reports[host.Unprotected] > 0 || !a.Protected(b) {
			w.Fail("the SA did not survive one lost packet")
		}
		w.CheckWorks(a, b)
		w.CheckOnePair(a, b)
	})
}

// A wire that loses every fifth packet ends no SA, under traffic of either kind.
func TestLossIsNoDeath(t *testing.T) {
	seeds(t, 100, func(t *testing.T, seed uint64) {
		w := New(t, seed)
		a, b := meet(w)
		w.SetLink(Link{Delay: 20 * time.Millisecond, Jitter: 30 * time.Millisecond, Loss: 0.2})
		for range 240 {
			a.Send(b)
			if seed%2 == 0 {
				b.Send(a)
			}
			w.Run(500 * time.Millisecond)
		}
		if a.Reports[host.Unprotected]+b.Reports[host.Unprotected] > 0 {
			w.Fail("an SA was given up")
		}
	})
}
