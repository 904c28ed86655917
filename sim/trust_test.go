package sim

import (
	"testing"
	"time"

	"github.com/btns-ipsec/btns/dataplane/flow"
	"github.com/btns-ipsec/btns/host"
	"github.com/btns-ipsec/btns/trust"
)

func (n *Node) fingerprint() string { return n.cfg.Signer.Public.Fingerprint().String() }

// BTNS-TRUST-10: in the mode ask, packets to a host whose key is not known wait; as soon as the operator accepts it they
// flow, protected.
func TestAsk(t *testing.T) {
	seeds(t, 10, func(t *testing.T, seed uint64) {
		w := New(t, seed)
		a := w.Host("a", func(c *host.Config) { c.Trust.Mode = trust.Ask })
		b := w.Host("b")
		w.SetLink(Link{Delay: 10 * time.Millisecond, Jitter: 10 * time.Millisecond})
		w.After(0, func() { a.Send(b) })
		w.RunUntil(time.Minute, "a refuses b", func() bool { return a.Reports[host.PeerRefused] > 0 })
		w.Run(time.Second)
		if s, _, _ := a.table.State(b.Addr); s != flow.Hold {
			w.Fail("traffic with a key that waits is in state %v", s)
		}
		before := *b.tally(a.Addr)
		for range 3 {
			a.Send(b)
			w.Run(20 * time.Second)
		}
		if now := *b.tally(a.Addr); now != before {
			w.Fail("packets went to a host whose key waits: %+v, then %+v", before, now)
		}
		a.step(host.Accept{Addr: b.Addr})
		w.RunUntil(10*time.Second, "a is protected", func() bool { return a.Protected(b) })
		w.Run(time.Second)
		if now := *b.tally(a.Addr); now.Clear != before.Clear || now.Protected <= before.Protected {
			w.Fail("what was held went as %+v, before %+v", now, before)
		}
		w.CheckWorks(a, b)
	})
}

// BTNS-TRUST-44: from the moment of a revocation on, nothing comes from the holder of the key, and nothing goes to it,
// over whatever wire.
func TestRevokedPeerIsOut(t *testing.T) {
	seeds(t, 10, func(t *testing.T, seed uint64) {
		w := New(t, seed)
		a, b := meet(w)
		if seed%2 == 0 {
			w.SetLink(bad)
		}
		w.Run(5 * time.Second)
		there, here := *b.tally(a.Addr), *a.tally(b.Addr)
		a.step(host.Revoke{Key: b.cfg.Signer.Public.Fingerprint()})
		for range 60 {
			a.Send(b)
			b.Send(a)
			w.Run(time.Second)
		}
		if *b.tally(a.Addr) != there || *a.tally(b.Addr) != here {
			w.Fail("%s is revoked; it got %+v after %+v, and we got %+v after %+v", b.fingerprint(), *b.tally(a.Addr), there, *a.tally(b.Addr), here)
		}
		if a.Pairs(b) != 0 || a.Reports[host.KeyRevoked] == 0 {
			w.Fail("%d pairs with a revoked key", a.Pairs(b))
		}
	})
}
