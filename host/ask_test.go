package host

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/dataplane/flow"
	"github.com/btns-ipsec/btns/ikev2"
	"github.com/btns-ipsec/btns/trust"
)

func asking(c *Config) { c.Trust.Mode = trust.Ask }

// BTNS-TRUST-10: in the mode ask an unknown key waits, whichever side began, and so does the traffic with it; the
// operator is told the exact command, and accepting goes on at once.
func TestAskHoldsUntilAccepted(t *testing.T) {
	for _, inbound := range []bool{false, true} {
		w := newWorld(t)
		a, b := w.box("a", addrA, asking), w.box("b", addrB)
		if inbound {
			b.acquire(addrA)
		} else {
			a.acquire(addrB)
		}
		a.want(addrB, StateRefused, flow.Hold)
		command := "btns trust accept " + addrB.String() + " " + b.key().String()
		if p := a.h.peers[addrB]; !strings.Contains(p.trouble().hint, command) || p.trouble().reason != KeyWaits {
			t.Fatalf("%q %q", p.trouble().reason, p.trouble().hint)
		}
		if x := a.h.Explain(w.now, addrB, 0); !strings.Contains(strings.Join(x.Story(), "\n"), command) || x.Hint == "" {
			t.Fatalf("%+v", x)
		}
		w.pass(10 * time.Minute)
		a.acquire(addrB)
		a.want(addrB, StateRefused, flow.Hold)
		a.do(Accept{Addr: addrB, Key: b.key()})
		a.want(addrB, StateProtected, flow.Protect)
		if n := len(a.order); a.order[n-2] != flow.Hold {
			t.Fatalf("%v: what was held may have gone in clear", a.order)
		}
	}
}

// When the accepted peer is gone, the policy decides again.
func TestAskAcceptedAndGone(t *testing.T) {
	w := newWorld(t)
	a, b := w.box("a", addrA, asking), w.box("b", addrB)
	a.acquire(addrB)
	b.kill()
	a.do(Accept{Addr: addrB, Key: b.key()})
	a.want(addrB, StateNegotiating, flow.Hold)
	w.pass(3 * time.Minute)
	if s := a.prefix(addrB); s != flow.Clear {
		t.Fatalf("%v\n%s", s, a.story())
	}
}

// What is forgotten, and what nothing may lock out, is not held.
func TestAskLetsGo(t *testing.T) {
	w := newWorld(t)
	a, _ := w.box("a", addrA, asking), w.box("b", addrB)
	a.acquire(addrB)
	a.want(addrB, StateRefused, flow.Hold)
	a.do(Forget{Addr: addrB})
	a.want(addrB, StateClear, flow.Clear)
	g := w.box("g", addrC, asking, func(c *Config) { c.Around.Essential = []netip.Addr{addrB} })
	g.acquire(addrB)
	if s := g.prefix(addrB); s != flow.Clear {
		t.Fatalf("a gateway is %v\n%s", s, g.story())
	}
}

// The mode strict turns away as before: what may go in clear does.
func TestStrictHoldsNothing(t *testing.T) {
	w := newWorld(t)
	a, _ := w.box("a", addrA, func(c *Config) { c.Trust.Mode = trust.Strict }), w.box("b", addrB)
	a.acquire(addrB)
	if s := a.prefix(addrB); s != flow.Clear {
		t.Fatalf("%v\n%s", s, a.story())
	}
}

// Whoever has many addresses does not fill the host, and what comes through a NAT holds nobody.
func TestWaitingIsBounded(t *testing.T) {
	w := newWorld(t)
	a := w.box("a", addrA, asking)
	refuse := func(addr netip.Addr, sa ikev2.Handle, nat bool) {
		s := a.h.sessionOf(w.now, sa, ap(addrA, 500), ap(addr, 500))
		a.h.act(w.now, ikev2.JudgePeer{
			SA: sa, Local: netip.AddrPortFrom(s.local, portIKE), Remote: s.remote, Peer: ikev2.Peer{Key: key(t, "x").Public}, NAT: ikev2.NAT{Peer: nat},
		})
		a.h.act(w.now, ikev2.SADown{SA: sa})
	}
	refuse(addrB, 999999, true)
	if a.h.peers[addrB] != nil {
		t.Fatal("an address with a NAT is held")
	}
	for i := range maxWaiting + 10 {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], 0xc6120000+uint32(i))
		refuse(netip.AddrFrom4(b), ikev2.Handle(1000000+i), false)
	}
	a.take(a.h.take())
	if n := len(a.h.peers); n != maxWaiting || len(a.h.crowd.waiting) != maxWaiting {
		t.Fatalf("%d peers, %d wait", n, len(a.h.crowd.waiting))
	}
}
