package host

import (
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/btns-ipsec/btns/dataplane/flow"
	"github.com/btns-ipsec/btns/ikev2"
	"github.com/btns-ipsec/btns/ikev2/chain/chaintest"
	"github.com/btns-ipsec/btns/policy"
	"github.com/btns-ipsec/btns/protect"
	"github.com/btns-ipsec/btns/selector"
)

// Somebody of the staff who sits on the path to a host that the operator has verified comes from the address of that.
func TestRoamingPeerTakesNoVerifiedAddress(t *testing.T) {
	secret := []byte("of all the staff")
	for name, certified := range map[string]bool{"a certificate": true, "a shared secret": false} {
		t.Run("BTNS-TRUST-21 BTNS-TRUST-30 by "+name, func(t *testing.T) {
			ca := chaintest.NewAuthority(t, "ca")
			w := newWorld(t)
			own := shows(t, ca, "a", "a.example")
			a := w.box("a", addrA, roamers(t, ca, own), func(c *Config) {
				if certified {
					return
				}
				pad := policy.PADEntry{Name: "staff", Kind: policy.ByID, IDs: policy.IDRange{Domain: ".staff.example"}, PSK: secret, Here: true}
				p, err := policy.New(append(policy.Untouchable(), policy.Rest(prefer)...), []policy.PADEntry{pad, policy.Anyone()})
				if err != nil {
					t.Fatal(err)
				}
				c.Policy, c.Anchors = p, nil
				c.Peers = []Peer{{Name: "staff", Self: ikev2.Local{ID: fqdn("a.example"), Method: ikev2.SharedKey, PSK: secret}}}
			})
			c := w.box("c", addrC)
			a.acquire(addrC)
			w.talk(a, c)
			a.do(Verify{Addr: addrC, Key: c.key()})
			a.want(addrC, StateProtected, flow.Protect)
			before := maps.Clone(a.store)
			a.do(Down{addrC})
			c.kill()
			evil := w.box("evil", addrC, func(cfg *Config) {
				if certified {
					under(t, ca, StartUp, addrA, fqdn("a.example"), shows(t, ca, "evil", "evil.staff.example"), prefer)(cfg)
					return
				}
				sharing(t, addrA, secret, "evil.staff.example")(cfg)
			})
			w.talk(a, evil)
			if a.told(KeyChanged, Alarm) == 0 || a.h.sas.Len() != 0 {
				t.Fatalf("%d pairs\n%s", a.h.sas.Len(), a.story())
			}
			if !slices.Equal(slices.Sorted(maps.Keys(before)), slices.Sorted(maps.Keys(a.store))) {
				t.Fatalf("%v", slices.Sorted(maps.Keys(a.store)))
			}
			a.want(addrC, StateRefused, flow.Hold)
		})
	}
}

// sharing configures a peer at an address that has to know a secret, and that is shown an ID with it.
func sharing(t testing.TB, remote netip.Addr, secret []byte, shown string) func(*Config) {
	t.Helper()
	return func(c *Config) {
		pad := policy.PADEntry{Name: "office", Kind: policy.ByID, ID: fqdn("a.example"), PSK: secret, Constraint: selector.Set{selector.Host(remote)}}
		spd := policy.Entry{
			Name: "office", Action: policy.Protect, Mode: protect.Transport, Peer: "office", Local: selector.Any(), Remote: pad.Constraint,
			Fallback: policy.Require, Offer: policy.DefaultOffer(true), Lifetime: policy.DefaultLifetime(),
		}
		p, err := policy.New(append(append(policy.Untouchable(), spd), policy.Rest(prefer)...), []policy.PADEntry{pad, policy.Anyone()})
		if err != nil {
			t.Fatal(err)
		}
		c.Policy = p
		c.Peers = []Peer{{
			Name: "office", Remote: remote, Self: ikev2.Local{ID: fqdn(shown), Method: ikev2.SharedKey, PSK: secret},
			Mode: protect.Transport, Start: StartUp, Offer: spd.Offer, Lifetime: spd.Lifetime,
		}}
	}
}

// What a peer of an entry with addresses has is not for those from anywhere; among each other these have what they had before, as
// several of them may be behind one NAT.
func TestRoamingPeersBesideOthers(t *testing.T) {
	ca := chaintest.NewAuthority(t, "ca")
	w := newWorld(t)
	a := w.box("a", addrA, roamers(t, ca, shows(t, ca, "a", "a.example")))
	b := w.box("b", addrB, under(t, ca, StartUp, addrA, fqdn("a.example"), shows(t, ca, "b", "b.staff.example"), prefer))
	c := w.box("c", addrC, under(t, ca, StartUp, addrA, fqdn("a.example"), shows(t, ca, "c", "c.staff.example"), prefer))
	w.talk(a, b)
	w.talk(a, c)
	there := selector.Set{selector.Host(addrC)}
	s, other := a.h.peers[addrB].session(), a.h.peers[addrC].session()
	if held := a.h.heldByOthers(s); held.Overlaps(there) {
		t.Errorf("what another one from anywhere has is held: %v", held)
	}
	fixed := *other.pad
	fixed.Here, fixed.Constraint = false, there
	other.pad = &fixed
	if held := a.h.heldByOthers(s); !held.Covers(there) {
		t.Errorf("what a peer of that address has is not held: %v", held)
	}
	if held := a.h.heldByOthers(other); len(held) != 0 {
		t.Errorf("from a peer with an address of its own is held: %v", held)
	}
}
