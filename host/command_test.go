package host

import (
	"net/netip"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/dataplane/flow"
	"github.com/btns-ipsec/btns/ikev2"
)

func ap(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }

// `btns down`: SAs and attempts end, the duty to protect stays.
func TestDown(t *testing.T) {
	t.Run("nothing is there", func(t *testing.T) {
		w := newWorld(t)
		a := w.box("a", addrA)
		a.do(Down{addrB})
		if a.count(Operator) != 1 || len(a.sent) != 0 {
			t.Fatal(a.story())
		}
	})
	t.Run("an attempt", func(t *testing.T) {
		w := newWorld(t)
		w.lose = nobody
		a := w.box("a", addrA)
		a.acquire(addrB)
		a.do(Down{addrB})
		a.want(addrB, StateClear, flow.Clear)
		if len(a.h.sessions) != 0 || a.h.sas.Reserved() != 0 {
			t.Fatal("something is left")
		}
	})
	t.Run("SAs with a recorded peer", func(t *testing.T) {
		w := newWorld(t)
		a, b := w.meet()
		a.do(Down{addrB})
		a.want(addrB, StateNegotiating, flow.Hold)
		if len(a.sas)+len(b.sas) != 0 {
			t.Fatal("pairs are left in a plane")
		}
		a.acquire(addrB)
		a.want(addrB, StateProtected, flow.Protect)
	})
}

// Stop tells every peer, waits for answers, and no longer than two seconds.
func TestStop(t *testing.T) {
	t.Run("without peers it is done at once", func(t *testing.T) {
		w := newWorld(t)
		a := w.box("a", addrA)
		a.do(Stop{})
		if a.stopped == 0 {
			t.Fatal("not done")
		}
	})
	t.Run("with a peer that answers", func(t *testing.T) {
		w := newWorld(t)
		a, b := w.meet()
		a.do(Stop{})
		a.do(Stop{})
		if a.stopped == 0 || len(a.sas)+len(b.sas) != 0 {
			t.Fatalf("stopped %d, %d and %d pairs are left", a.stopped, len(a.sas), len(b.sas))
		}
		b.acquire(addrA) // nobody is taken in any more
		if len(a.sas) != 0 {
			t.Fatal("a host that stops makes SAs")
		}
		a.acquire(addrB)
		if len(a.sas) != 0 {
			t.Fatal("a host that stops makes SAs")
		}
	})
	t.Run("with a peer that does not", func(t *testing.T) {
		w := newWorld(t)
		a, b := w.meet()
		b.kill()
		a.do(Stop{})
		if a.stopped != 0 {
			t.Fatal("done before the peer could answer")
		}
		w.pass(farewell)
		if a.stopped == 0 {
			t.Fatal("not done after two seconds")
		}
	})
	t.Run("while an attempt is under way", func(t *testing.T) {
		w := newWorld(t)
		w.lose = nobody
		a := w.box("a", addrA)
		a.acquire(addrB)
		a.do(Stop{})
		if a.stopped == 0 || len(a.h.sessions) != 0 {
			t.Fatal("an attempt is waited for")
		}
	})
}

// Crossing first contacts: both begin at once, one IKE SA and one pair are left, on both sides the same
// (RFC 7296 §2.8.1, ikev2.md §7.3).
func TestTwinsSettle(t *testing.T) {
	w := newWorld(t)
	a, b := w.box("a", addrA), w.box("b", addrB)
	flowOf(a, addrB)
	flowOf(b, addrA)
	w.settle()
	a.want(addrB, StateProtected, a.prefix(addrB))
	w.talk(a, b)
	w.pass(twinPatience + lingering)
	if len(a.h.peers[addrB].sessions) != 1 || len(b.h.peers[addrA].sessions) != 1 {
		t.Fatalf("%d and %d IKE SAs", len(a.h.peers[addrB].sessions), len(b.h.peers[addrA].sessions))
	}
	x, y := a.sas[a.sole()], b.sas[b.sole()]
	if x.SPIIn != y.SPIOut || x.SPIOut != y.SPIIn || len(a.sas) != 1 || len(b.sas) != 1 {
		t.Fatalf("%d and %d pairs", len(a.sas), len(b.sas))
	}
}

// flowOf begins without letting anything arrive.
func flowOf(b *box, to netip.Addr) { b.step(Connect{Remote: to}) }

// When the survivor does not prove itself, it is asked again, and nothing is deleted meanwhile.
func TestTwinsWait(t *testing.T) {
	w := newWorld(t)
	a, b := w.box("a", addrA), w.box("b", addrB)
	flowOf(a, addrB)
	flowOf(b, addrA)
	twinsThere := func() bool { return len(a.h.sessions) == 2 && len(a.h.peers[addrB].sessions) == 2 }
	for n := 0; !twinsThere() && len(w.mail) > 0 && n < 1000; n++ {
		next := w.mail[0]
		w.mail = w.mail[1:]
		next.run()
	}
	if !twinsThere() {
		t.Fatal("with these keys one was settled before the other came")
	}
	w.lose = nobody
	w.pass(twinPatience)
	if len(a.h.peers[addrB].sessions) != 2 {
		t.Fatal("deleted without a proof")
	}
	w.lose = nil
	w.pass(20 * time.Second)
	w.talk(a, b)
	w.pass(20 * time.Second)
	if len(a.h.peers[addrB].sessions) != 1 || len(b.h.peers[addrA].sessions) != 1 {
		t.Fatalf("%d and %d IKE SAs", len(a.h.peers[addrB].sessions), len(b.h.peers[addrA].sessions))
	}
}

// A pair that sent is gone: another one that serves the same traffic stands in for it.
func TestStandIn(t *testing.T) {
	w := newWorld(t)
	a, b := w.meet()
	first := a.sole()
	p := a.h.peers[addrB]
	child, ok := a.h.request(p, nil)
	if !ok {
		t.Fatal("no SPI")
	}
	p.session().promises(child.ID, child.SPI)
	a.h.ike(w.now, ikev2.CreateChild{SA: p.session().handle, Child: child})
	a.take(a.h.take())
	w.settle()
	if a.h.sas.Len() != 2 {
		t.Fatalf("%d pairs", a.h.sas.Len())
	}
	for id := range a.sas {
		if pair := a.h.sas.Get(uint64(id)); id != first && !pair.Sending {
			a.h.use(pair)
		}
	}
	a.take(a.h.take())
	for id := range a.sas {
		if id != first {
			a.h.ike(w.now, ikev2.DeleteChild{Child: ikev2.ChildID(id)})
		}
	}
	a.take(a.h.take())
	w.settle()
	if !a.h.sas.Get(uint64(first)).Sending || a.state(addrB) != StateProtected {
		t.Fatal("nothing sends any more")
	}
	w.talk(a, b)
}

// A child that the peer refuses: the IKE SA stays, the state says what policy demands, and the pause grows.
func TestChildRefused(t *testing.T) {
	for _, c := range []struct {
		name  string
		edit  func(*Config)
		state PeerState
		plane flow.State
	}{
		{"prefer", preferring, StateClear, flow.Clear},
		{"require", requiring(t), StateRefused, flow.Hold},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			a := w.box("a", addrA, c.edit)
			w.box("b", addrB, func(c *Config) { // takes in anybody and protects nothing
				tunnels(t, StartListen, tunnel{"gate", addrC, "10.0.0.0/8"})(c)
				c.Policy = strictOf(t, c)
			})
			a.acquire(addrB)
			a.want(addrB, c.state, c.plane)
			p := a.h.peers[addrB]
			if p.trouble().fails != 1 || len(p.sessions) != 1 || a.h.sas.Reserved() != 0 {
				t.Fatalf("%d failures, %d IKE SAs, %d SPIs\n%s", p.trouble().fails, len(p.sessions), a.h.sas.Reserved(), a.story())
			}
		})
	}
}
