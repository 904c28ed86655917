package sim

import (
	"bytes"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/host"
	"github.com/btns-ipsec/btns/identity"
)

// plan has n plan the change to another key, which its store then has.
func (n *Node) plan(lead time.Duration) identity.PublicKey {
	seed := make([]byte, 32)
	for i := range seed {
		seed[i] = byte(n.w.rnd.Uint32())
	}
	next, err := identity.NewEd25519(bytes.NewReader(seed))
	if err != nil {
		n.w.t.Fatalf("%v", err)
	}
	r := &n.cfg.Rotation
	r.Next, r.From = next, n.w.now.Add(lead)
	n.step(host.Rotate{Next: r.Next, From: r.From})
	return next.Public
}

// shows is the key that o shows to n.
func (n *Node) shows(o *Node) identity.Fingerprint {
	v, _ := n.view(o)
	return v.Key
}

// trust.md §11, T06: a planned change raises no alarm, over a good wire loses no packet, and over any wire lets none out in
// clear; also when both ends change at the same time, and when they restart in the midst of it.
func TestPlannedChange(t *testing.T) {
	t.Run("BTNS-TRUST-40 BTNS-TRUST-41 T06 over a good wire no packet is lost", func(t *testing.T) {
		seeds(t, 10, func(t *testing.T, seed uint64) {
			w := New(t, seed)
			a, b := meet(w)
			w.Run(10 * time.Second)
			want := b.plan(2 * time.Minute)
			before := *b.tally(a.Addr)
			sent := 0
			for range 240 {
				a.Send(b)
				b.Send(a)
				sent++
				w.Run(time.Second)
			}
			got := *b.tally(a.Addr)
			if got.Clear != before.Clear || got.Protected != before.Protected+sent {
				w.Fail("of %d packets arrived: %+v, before %+v", sent, got, before)
			}
			if a.shows(b) != want.Fingerprint() || a.Reports[host.KeyChanged] != 0 {
				w.Fail("%s shows %v, its new key is %v", b.Name, a.shows(b), want)
			}
			w.CheckOnePair(a, b)
		})
	})
	t.Run("BTNS-TRUST-40 BTNS-TRUST-41 T06 over a bad wire, both at once", func(t *testing.T) {
		seeds(t, 20, func(t *testing.T, seed uint64) {
			w := New(t, seed)
			a, b := meet(w)
			w.Run(10 * time.Second)
			w.SetLink(bad)
			both := map[*Node]identity.PublicKey{a: a.plan(10 * time.Minute), b: b.plan(10 * time.Minute)}
			clear := a.tally(b.Addr).Clear + b.tally(a.Addr).Clear
			for i := range 120 {
				a.Send(b)
				b.Send(a)
				w.Run(10 * time.Second)
				if seed%2 == 0 && i == 30+int(seed) {
					b.Kill()
					w.Run(5 * time.Second)
					b.Boot()
				}
			}
			w.SetLink(Link{Delay: 5 * time.Millisecond})
			for range 40 {
				a.Send(b)
				b.Send(a)
				w.Run(5 * time.Second)
			}
			if a.shows(b) != both[b].Fingerprint() || b.shows(a) != both[a].Fingerprint() || a.Reports[host.KeyChanged]+b.Reports[host.KeyChanged] != 0 {
				w.Fail("a sees %v, b sees %v; the new keys are %v and %v", a.shows(b), b.shows(a), both[b], both[a])
			}
			if now := a.tally(b.Addr).Clear + b.tally(a.Addr).Clear; now != clear {
				w.Fail("%d packets went in clear", now-clear)
			}
			w.CheckWorks(a, b)
			w.CheckOnePair(a, b)
			w.CheckNoPromises(a, b)
		})
	})
}
