package host

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/dataplane"
	"github.com/btns-ipsec/btns/dataplane/flow"
	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/ikev2"
	"github.com/btns-ipsec/btns/policy"
)

// nullOK is a policy that takes in peers with and without a key.
func nullOK(t *testing.T) func(*Config) {
	return func(c *Config) {
		c.Policy = unknown(t, policy.Unknown{Fallback: policy.Prefer, NullOK: true}, policy.Anonymous())
	}
}

// What core.md §6 demands of how a host shows itself, and tells of others.
func TestLedgerOfIdentities(t *testing.T) {
	t.Run("BTNS-CORE-42 strangers are told ID_NULL", func(t *testing.T) {
		w := newWorld(t)
		a, b := w.meet()
		for _, p := range []*peer{a.h.peers[addrB], b.h.peers[addrA]} {
			if id := p.session().who.ID; id != identity.Null() {
				t.Errorf("%v asserts %v", p.addr, id)
			}
		}
	})
	t.Run("BTNS-NULL-13 a host that could do without a key shows its key", func(t *testing.T) {
		w := newWorld(t)
		a, b := w.meet(nullOK(t))
		if who := a.h.peers[addrB].session().who; who.Method != ikev2.Signature || who.Key != b.cfg.Signer.Public {
			t.Errorf("b shows %+v", who)
		}
		if who := b.h.peers[addrA].session().who; who.Method != ikev2.Signature || who.Key != a.cfg.Signer.Public {
			t.Errorf("a shows %+v", who)
		}
	})
	t.Run("BTNS-CORE-43 what a refused peer asserts is told as unproven, escaped, with its address", func(t *testing.T) {
		w := newWorld(t)
		a := w.box("a", addrA)
		a.h.act(w.now, ikev2.FindCredential{
			SA: 77, Local: ap(addrA, 500), Remote: ap(addrB, 500), Method: ikev2.Null,
			ID: identity.ID{Type: identity.IDFQDN, Data: "root\x1b[2J\nlevel=ERROR" + strings.Repeat("x", 5000)},
		})
		a.take(a.h.take())
		if len(a.reports) != 1 {
			t.Fatalf("%d reports", len(a.reports))
		}
		r := a.reports[0]
		if r.Remote != addrB || !strings.Contains(r.Text, "unproven ID fqdn:root") || len(r.Text) > 300 {
			t.Errorf("%+v", r)
		}
		if strings.ContainsFunc(r.Text, func(c rune) bool { return c < ' ' || c > '~' }) {
			t.Errorf("%q", r.Text)
		}
		a.h.act(w.now, ikev2.SADown{SA: 77})
	})
}

// What core.md §8 and §9 demand of the SAs that are there.
func TestLedgerOfLiveSAs(t *testing.T) {
	pairs := func(b *box) (ids []flow.PairID) {
		for id := range b.sas {
			ids = append(ids, id)
		}
		slices.Sort(ids)
		return ids
	}
	t.Run("BTNS-CORE-62 a fresh IKE SA with another key makes no child for the address of a known one", func(t *testing.T) {
		w := newWorld(t)
		a, b := w.meet()
		before := pairs(a)
		b.dead = true // the SAs with it stay
		evil := w.box("evil", addrB)
		evil.acquire(addrA)
		if a.count(KeyChanged) != 1 || len(before) == 0 || !slices.Equal(pairs(a), before) || len(evil.sas) != 0 {
			t.Fatalf("%v before, %v after, %d at the other side\n%s", before, pairs(a), len(evil.sas), a.story())
		}
		if key := a.h.peers[addrB].session().who.Key; key != b.cfg.Signer.Public {
			t.Errorf("%v", key)
		}
	})
	t.Run("BTNS-CORE-68 a closed port does not mean that the peer is gone", func(t *testing.T) {
		w := newWorld(t)
		a, _ := w.meet()
		before := pairs(a)
		for range 5 {
			a.plane(dataplane.PortClosed{Remote: addrB})
			w.pass(time.Minute)
		}
		a.want(addrB, StateProtected, flow.Protect)
		if !slices.Equal(pairs(a), before) {
			t.Errorf("%v before, %v after", before, pairs(a))
		}
	})
	t.Run("BTNS-NULL-06 INITIAL_CONTACT of a peer without a key deletes nothing", func(t *testing.T) {
		w := newWorld(t)
		a, _ := w.meet(nullOK(t))
		first := a.h.peers[addrB].session()
		first.who = ikev2.Peer{Method: ikev2.Null, ID: identity.Null()} // as if it, too, had been made without a key
		before := pairs(a)
		a.h.act(w.now, ikev2.SAUp{
			SA: 77, Local: ap(addrA, 500), Remote: ap(addrB, 500), InitialContact: true, Nonce: []byte{1},
			Peer: ikev2.Peer{Method: ikev2.Null, ID: identity.Null()},
		})
		a.take(a.h.take())
		if a.h.sessions[first.handle] != first || !slices.Equal(pairs(a), before) || len(before) == 0 {
			t.Errorf("%v before, %v after", before, pairs(a))
		}
		a.h.act(w.now, ikev2.SADown{SA: 77, WasUp: true})
	})
}
