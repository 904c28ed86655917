package host

import (
	"net/netip"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/dataplane"
	"github.com/btns-ipsec/btns/dataplane/flow"
	"github.com/btns-ipsec/btns/policy"
	"github.com/btns-ipsec/btns/selector"
)

// design.md: probing is polite. Three datagrams, then the address is left alone, longer each time; a packet from there
// that is IKE ends the pause.
func TestStrangerIsAskedPolitely(t *testing.T) {
	w := newWorld(t)
	w.lose = nobody
	a := w.box("a", addrA)
	a.acquire(addrB)
	a.acquire(addrB)
	w.pass(30 * time.Second)
	if n := a.exchanges(ikeSAInit); n != politeProbes {
		t.Fatalf("%d datagrams", n)
	}
	if len(a.h.peers) != 0 {
		t.Error("a host keeps a record of who does not speak IKE")
	}
	a.acquire(addrB) // the negative cache
	if n := a.exchanges(ikeSAInit); n != politeProbes {
		t.Fatalf("asked again after half a minute: %d datagrams", n)
	}
	w.pass(time.Minute)
	a.acquire(addrB)
	w.pass(30 * time.Second)
	if n := a.exchanges(ikeSAInit); n != 2*politeProbes {
		t.Fatalf("%d datagrams after the pause", n)
	}
}

// More new addresses than the rate allows wait for their turn.
func TestProbesArePaced(t *testing.T) {
	w := newWorld(t)
	w.lose = nobody
	a := w.box("a", addrA, func(c *Config) { c.Probe.Rate = 2 })
	for i := range byte(6) {
		a.acquire(netip.AddrFrom4([4]byte{198, 51, 100, 1 + i}))
	}
	if n := a.exchanges(ikeSAInit); n != 2 {
		t.Fatalf("%d at once", n)
	}
	w.pass(10 * time.Second)
	if n := a.exchanges(ikeSAInit); n != 6*politeProbes {
		t.Fatalf("%d datagrams in all", n)
	}
}

// What policy leaves alone is left alone.
func TestNotProbed(t *testing.T) {
	for _, c := range []struct {
		name   string
		remote string
		edit   func(*Config)
	}{
		{"multicast", "224.0.0.251", preferring},
		{"link-local", "169.254.7.7", preferring},
		{"a policy that never begins", "203.0.113.2", func(c *Config) { c.Policy = unknown(t, policy.Unknown{Fallback: policy.Never}) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			a := w.box("a", addrA, c.edit)
			a.acquire(netip.MustParseAddr(c.remote))
			if len(a.sent) != 0 || len(a.h.peers) != 0 {
				t.Fatalf("%d sent, %d peers", len(a.sent), len(a.h.peers))
			}
		})
	}
}

// A host that never begins protects when the peer begins, and then keeps to it: what is recorded is sticky only when we
// went to it.
func TestNeverBeginsButAnswers(t *testing.T) {
	w := newWorld(t)
	a := w.box("a", addrA)
	b := w.box("b", addrB, func(c *Config) { c.Policy = unknown(t, policy.Unknown{Fallback: policy.Never}) })
	a.acquire(addrB)
	w.talk(a, b)
	b.want(addrA, StateProtected, flow.Protect)
	if b.h.sticky(w.now, addrA) {
		t.Error("a peer that came by itself is sticky")
	}
	if !a.h.sticky(w.now, addrB) {
		t.Error("a peer that we went to is not sticky")
	}
}

// Attempts that come to nothing are repeated by packets only, after one second, two, four, up to a minute.
func TestBackOff(t *testing.T) {
	w := newWorld(t)
	w.lose = nobody
	a := w.box("a", addrA, requiring(t))
	for i, seconds := range []int{1, 2, 4, 8, 16, 32, 60, 60} {
		pause := time.Duration(seconds) * time.Second
		a.acquire(addrB)
		state := StateNegotiating
		if i > 0 { // what is wrong goes on to be said
			state = StateOutage
		}
		a.want(addrB, state, flow.Hold)
		for a.h.peers[addrB].attempt != 0 {
			w.pass(100 * time.Millisecond)
		}
		p := a.h.peers[addrB]
		if left := p.trouble().retryAt.Sub(w.now); p.trouble().fails != i+1 || left > pause || left < pause-200*time.Millisecond {
			t.Fatalf("after %d failures: %d, the next in %v, want %v", i+1, p.trouble().fails, left, pause)
		}
		before := a.exchanges(ikeSAInit)
		a.acquire(addrB)
		if a.exchanges(ikeSAInit) != before {
			t.Fatalf("a packet makes another attempt before the pause of %v is over", pause)
		}
		w.pass(pause)
	}
	b := w.box("b", addrB)
	w.lose = nil
	a.acquire(addrB)
	w.talk(a, b)
	if p := a.h.peers[addrB]; p.trouble().fails != 0 || p.state != StateProtected {
		t.Fatalf("%d failures are remembered in state %v", p.trouble().fails, p.state)
	}
}

// `btns wait` waits for no pause.
func TestConnect(t *testing.T) {
	w := newWorld(t)
	w.lose = nobody
	a := w.box("a", addrA)
	a.do(Connect{Remote: addrB})
	w.pass(30 * time.Second)
	a.want(addrB, StateClear, flow.Clear)
	w.lose = nil
	w.box("b", addrB)
	a.do(Connect{Remote: addrB})
	a.want(addrB, StateProtected, flow.Upgrade)
}

// The answers to FindSource.
func TestSourceFound(t *testing.T) {
	t.Run("the route is there", func(t *testing.T) {
		w := newWorld(t)
		a := w.box("a", addrA)
		w.box("b", addrB)
		a.do(Connect{Remote: addrB})
		a.want(addrB, StateProtected, flow.Upgrade)
	})
	t.Run("it is asked for once", func(t *testing.T) {
		w := newWorld(t)
		a := w.box("a", addrA)
		a.silent = true
		for range 3 {
			a.do(Connect{Remote: addrB})
		}
		if len(a.sent) != 0 || !a.h.peers[addrB].asking {
			t.Fatal("sent without a source")
		}
		a.do(SourceFound{Remote: addrB, Local: addrA})
		if a.exchanges(ikeSAInit) != 1 {
			t.Fatal("the answer begins the attempt")
		}
		a.do(SourceFound{Remote: addrB, Local: addrA}) // nobody asked
		a.do(SourceFound{Remote: addrC, Local: addrA})
		if a.exchanges(ikeSAInit) != 1 {
			t.Fatal("an answer to no question began an attempt")
		}
	})
	t.Run("it is one of our own addresses", func(t *testing.T) {
		w := newWorld(t)
		a := w.box("a", addrA)
		a.source = func(netip.Addr) (netip.Addr, error) { return addrB, nil }
		a.do(Connect{Remote: addrB})
		a.want(addrB, StateClear, flow.Clear)
		if len(a.sent) != 0 {
			t.Fatal("a host asks itself")
		}
	})
	t.Run("there is no route to an unknown address", func(t *testing.T) {
		w := newWorld(t)
		a := w.box("a", addrA)
		a.source = func(netip.Addr) (netip.Addr, error) { return netip.Addr{}, errNoRoute }
		a.do(Connect{Remote: addrB})
		a.want(addrB, StateClear, flow.Clear)
		if len(a.h.peers) != 0 {
			t.Error("the host keeps a record of an address that it has no route to")
		}
	})
	t.Run("there is no route to a recorded one, until there is", func(t *testing.T) {
		w := newWorld(t)
		a, _ := w.meet()
		a.boot()
		ok := false
		a.source = func(netip.Addr) (netip.Addr, error) {
			if ok {
				return addrA, nil
			}
			return netip.Addr{}, errNoRoute
		}
		a.do(Connect{Remote: addrB})
		a.want(addrB, StateOutage, flow.Hold)
		ok = true
		w.pass(2 * time.Second)
		a.want(addrB, StateProtected, flow.Protect)
	})
}

// A changed address: SAs that are bound to the old one end, and new ones come at once; what still holds stays.
func TestAddressChanged(t *testing.T) {
	t.Run("the source is as before", func(t *testing.T) {
		w := newWorld(t)
		a, _ := w.meet()
		before := a.exchanges(ikeSAInit)
		a.plane(dataplane.AddressChanged{})
		if a.exchanges(ikeSAInit) != before {
			t.Fatal("new SAs without need")
		}
		a.want(addrB, StateProtected, flow.Protect)
	})
	t.Run("it is another one", func(t *testing.T) {
		w := newWorld(t)
		a, b := w.meet()
		a.addr = addrC
		a.plane(dataplane.AddressChanged{})
		a.want(addrB, StateProtected, flow.Protect)
		w.talk(a, b)
		b.want(addrC, StateProtected, flow.Protect)
		if s := a.h.peers[addrB].session(); s.local != addrC || len(a.h.peers[addrB].sessions) != 1 {
			t.Fatalf("the IKE SA is at %v", s.local)
		}
	})
	t.Run("the attempt under way is at the old one", func(t *testing.T) {
		w := newWorld(t)
		a := w.box("a", addrA, requiring(t))
		w.lose = nobody
		a.acquire(addrB)
		a.addr, w.lose = addrC, nil
		w.box("b", addrB)
		a.plane(dataplane.AddressChanged{})
		w.pass(5 * time.Second)
		a.want(addrB, StateProtected, flow.Protect)
		if s := a.h.peers[addrB].session(); s.local != addrC {
			t.Fatalf("the IKE SA is at %v", s.local)
		}
	})
	t.Run("there are no SAs", func(t *testing.T) {
		w := newWorld(t)
		a, _ := w.meet()
		a.boot()
		a.h.peers[addrB].local = addrA
		a.plane(dataplane.AddressChanged{})
		if a.h.peers[addrB].local.IsValid() {
			t.Fatal("the old source is still taken for ours")
		}
	})
}

// ESP under an SA that is not there says that this host lost its state; whoever is not known gets nothing for it
// (RFC 7296 §2.21.4).
func TestUnknownSPI(t *testing.T) {
	spi := dataplane.UnknownSPI{Local: netip.AddrPortFrom(addrA, 4500), Remote: netip.AddrPortFrom(addrB, 4500), SPI: 0xabcdef}
	w := newWorld(t)
	a, b := w.meet()
	a.plane(spi)
	if a.exchanges(ikeSAInit) != 1 {
		t.Fatal("an IKE SA is there: the packet says nothing")
	}
	a.boot()
	a.plane(spi)
	a.want(addrB, StateProtected, flow.Protect)
	w.talk(a, b)

	c := w.box("c", addrC)
	c.plane(dataplane.UnknownSPI{Local: netip.AddrPortFrom(addrC, 4500), Remote: netip.AddrPortFrom(addrB, 4500)})
	if len(c.sent) != 0 || len(c.h.peers) != 0 {
		t.Fatal("a stranger's packet brought about something")
	}
	if c.h.Status(w.now).Drops[flow.UnknownSPI.String()] != 1 {
		t.Fatal("it is not counted")
	}
}

// Packets to an address within a configured tunnel belong to its peer, the longest prefix first.
func TestPeerFor(t *testing.T) {
	w := newWorld(t)
	a := w.box("a", addrA, tunnels(t, StartOnDemand,
		tunnel{"wide", addrB, "10.0.0.0/8"}, tunnel{"narrow", addrC, "10.1.0.0/16"}))
	for addr, want := range map[string]string{"10.1.2.3": "narrow", "10.2.2.3": "wide"} {
		if p := a.h.peerFor(netip.MustParseAddr(addr)); p == nil || p.cfg.Name != want {
			t.Errorf("%s belongs to %v", addr, p)
		}
	}
	if p := a.h.peerFor(netip.MustParseAddr("192.0.2.9")); p != nil {
		t.Errorf("an address outside belongs to %v", p.addr)
	}
	w.lose = nobody
	a.plane(dataplane.Acquire{Flow: selector.Flow{Local: addrA, Remote: netip.MustParseAddr("10.1.2.3")}, Held: true})
	if len(a.sent) != 1 || a.sent[0].Remote.Addr() != addrC {
		t.Fatal("the gateway of the narrow tunnel is not asked")
	}
}
