package sim

import (
	"testing"
	"time"

	"github.com/btns-ipsec/btns/host"
	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/ikev2"
	"github.com/btns-ipsec/btns/policy"
	"github.com/btns-ipsec/btns/protect"
	"github.com/btns-ipsec/btns/selector"
	"github.com/btns-ipsec/btns/trust"
)

// open accepts peers with and without keys, and remembers none.
func open(t *testing.T) func(*host.Config) {
	p, err := policy.New(
		append(policy.Untouchable(), policy.Rest(policy.Unknown{Fallback: policy.Prefer, Waiting: policy.Pass, NullOK: true})...),
		[]policy.PADEntry{policy.Anyone(), policy.Anonymous()})
	if err != nil {
		t.Fatal(err)
	}
	return func(c *host.Config) { c.Policy, c.Trust = p, trust.Config{Mode: trust.Off} }
}

// null shows no key to a peer.
func null(t *testing.T, to *Node) func(*host.Config) {
	all := selector.Set{selector.Host(to.Addr)}
	entry := policy.Entry{
		Name: "peer", Action: policy.Protect, Mode: protect.Transport, Peer: "peer", Local: selector.Any(), Remote: all,
		Offer: policy.DefaultOffer(true), Lifetime: policy.DefaultLifetime(),
	}
	p, err := policy.New([]policy.Entry{entry}, []policy.PADEntry{{Name: "peer", Kind: policy.AnyKey, Constraint: all}})
	if err != nil {
		t.Fatal(err)
	}
	return func(c *host.Config) {
		c.Policy = p
		c.Peers = []host.Peer{{
			Name: "peer", Remote: to.Addr, Mode: protect.Transport, Self: ikev2.Local{ID: identity.Null(), Method: ikev2.Null},
			Offer: policy.DefaultOffer(true), Lifetime: policy.DefaultLifetime(),
		}}
	}
}

// A peer without a key gets SAs where policy says so, but never those of an address for which a peer with a key has some
// (BTNS-NULL-06, BTNS-NULL-08).
func TestNullDisplacesNobody(t *testing.T) {
	for _, taken := range []bool{false, true} {
		w := New(t, 21)
		a := w.Host("a", open(t))
		b := w.Host("b")
		w.After(0, func() { b.Send(a) })
		w.RunUntil(time.Minute, "a and b protected", func() bool { return a.Protected(b) && b.Protected(a) })
		v, _ := a.view(b)
		at := b.Addr
		b.Kill()
		n := w.Host("n", null(t, a))
		if taken {
			n.Move(at)
		}
		for range 20 {
			n.Send(a)
			w.Run(500 * time.Millisecond)
		}
		got := a.tally(n.Addr).Protected
		switch {
		case !taken && got == 0:
			w.Fail("a peer without a key is not served at a free address")
		case taken && got != 0:
			w.Fail("%d packets of a peer without a key came in for the address of one with a key", got)
		case taken:
			now, _ := a.view(b)
			if len(now.Children) != 1 || now.Children[0].SPIIn != v.Children[0].SPIIn || !now.Children[0].Sending {
				w.Fail("the SAs of the peer with a key were displaced")
			}
		}
	}
}
