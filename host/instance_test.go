package host

import (
	"testing"
	"time"

	"github.com/btns-ipsec/btns/ikev2"
)

// three makes a host and two others that have the same key.
func three(w *world, edit func(*Config)) (a, b, c *box) {
	w.t.Helper()
	stolen := func(c *Config) {
		c.Signer = key(w.t, "b")
		if edit != nil {
			edit(c)
		}
	}
	a, b, c = w.box("a", addrA), w.box("b", addrB, stolen), w.box("c", addrC, stolen)
	return a, b, c
}

// gossip has b and c talk with a over a few minutes.
func gossip(w *world, a, b, c *box) {
	w.t.Helper()
	a.acquire(b.addr)
	a.acquire(c.addr)
	for range 20 {
		for _, o := range []*box{b, c} {
			a.packet(o)
			o.packet(a)
		}
		w.pass(15 * time.Second)
	}
}

func TestClonedMachine(t *testing.T) {
	t.Run("a copy of a machine is an alarm", func(t *testing.T) {
		w := newWorld(t)
		a, b, c := three(w, nil)
		gossip(w, a, b, c)
		if a.told(KeyCloned, Alarm) != 1 {
			t.Fatal(a.story())
		}
	})
	t.Run("one machine with two addresses is none", func(t *testing.T) {
		w := newWorld(t)
		a, b, c := three(w, func(c *Config) { c.IKE.Instance = ikev2.Instance{7} })
		gossip(w, a, b, c)
		if a.count(KeyCloned) != 0 {
			t.Fatal(a.story())
		}
	})
	t.Run("a machine that restarts is none, whenever it does", func(t *testing.T) {
		for step := range 12 {
			w := newWorld(t)
			a, b := w.meet()
			for range 4 {
				for range 3 + step {
					a.packet(b)
					b.packet(a)
					w.pass(5 * time.Second)
				}
				b.kill()
				clear(b.store) // it does not say that the old session is gone
				w.pass(time.Second)
				b.boot()
				b.acquire(addrA)
				w.talk(a, b)
			}
			if a.count(KeyCloned) != 0 {
				t.Fatalf("step %d: %s", step, a.story())
			}
		}
	})
	t.Run("each start is an instance of its own", func(t *testing.T) {
		w := newWorld(t)
		a, b := w.meet()
		one := a.h.peers[addrB].session().talk.instance
		b.kill()
		w.pass(time.Second)
		b.boot()
		b.acquire(addrA)
		if two := a.h.peers[addrB].session().talk.instance; two == one || two == [16]byte{} {
			t.Fatalf("%x, %x", one, two)
		}
	})
}
