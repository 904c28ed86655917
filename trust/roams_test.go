package trust

import (
	"errors"
	"slices"
	"testing"

	"github.com/btns-ipsec/btns/identity"
)

// A rule that says who a peer is and nothing of where it is vouches for it, and gives it no address and no name of others.
func TestRuleWithoutAddress(t *testing.T) {
	k1, k2, k3 := key(t, 1), key(t, 2), key(t, 3)
	const name = "host.example"
	roams := func(q Query) Query {
		q.Named, q.Roams = true, true
		return q
	}
	known := func(t *testing.T, m Mode) *Book { // the operator verified k1, at host and for the name
		t.Helper()
		b := New(Config{Mode: m}, nil)
		must(t)(b.Accept(t0, host, "", k1.Fingerprint()))
		must(t)(b.Verify(t0, host, "", k1.Fingerprint()))
		must(t)(b.AcceptName(t0, name, k1.Fingerprint(), false))
		must(t)(b.VerifyName(t0, name, k1.Fingerprint()))
		return b
	}
	for _, m := range []Mode{AcceptNew, Strict, Ask, Off} {
		t.Run("BTNS-TRUST-30 in mode "+m.String()+" it takes nothing that is recorded", func(t *testing.T) {
			for _, q := range []Query{
				{Addr: host, Key: k2},
				{Addr: host, Key: k2, OldGone: true},
				{Addr: host, Key: k2, Inbound: true, NAT: true},
				{Addr: home, Name: name, Key: k2},
			} {
				b := known(t, m)
				before := b.List()
				refused(t, b, roams(q))
				if _, err := b.Carried(t0, roams(q)); !refusesKey(err) {
					t.Errorf("%+v: %v", q, err)
				}
				if after := b.List(); !slices.EqualFunc(before, after, func(x, y Record) bool { return x.ID() == y.ID() }) {
					t.Errorf("%+v: %+v", q, after)
				}
			}
		})
		t.Run("BTNS-TRUST-01 in mode "+m.String()+" it vouches where nobody is", func(t *testing.T) {
			b := known(t, m)
			judge(t, b, roams(Query{Addr: home, Key: k2}), identity.Verified)
			judge(t, b, roams(Query{Addr: home}), identity.Verified) // a shared secret
		})
	}
	t.Run("BTNS-NULL-14 a shared secret is no way past a record", func(t *testing.T) {
		b := known(t, AcceptNew)
		for _, q := range []Query{{Addr: host}, {Addr: home, Name: name}} {
			var down *DowngradeError
			if v := b.Judge(t0, roams(q)); !errors.As(v.Refuse, &down) {
				t.Errorf("%+v: %+v", q, v)
			}
		}
	})
	t.Run("BTNS-TRUST-20 what only came to us goes when it is gone, and not by the rule", func(t *testing.T) {
		b := New(Config{}, nil)
		carry(t, b, Query{Addr: host, Key: k1, Inbound: true})
		q := roams(Query{Addr: host, Key: k2, Inbound: true})
		refused(t, b, q)
		q.OldGone = true
		judge(t, b, q, identity.Verified)
		carry(t, b, q)
		if e := events[Replaced](b); len(e) != 1 || e[0].Why != OldIsGone {
			t.Fatalf("%+v", e)
		}
	})
	t.Run("BTNS-TRUST-13 the name is its own, and the address another's: that warns", func(t *testing.T) {
		b := known(t, AcceptNew)
		q := roams(Query{Addr: home, Name: "laptop.example", Key: k3})
		carry(t, b, q)
		q.Addr = host
		if v := b.Judge(t0, q); v.Refuse != nil || v.Assurance != identity.Verified || v.Warn == nil || v.Warn.Want != k1.Fingerprint() {
			t.Fatalf("%+v", v)
		}
	})
	t.Run("a rule that is about the address wins, as before", func(t *testing.T) {
		b := known(t, AcceptNew)
		q := Query{Addr: host, Key: k2, Named: true}
		judge(t, b, q, identity.Verified)
		carry(t, b, q)
		if e := events[Replaced](b); len(e) != 1 || e[0].Why != ByRule {
			t.Fatalf("%+v", e)
		}
	})
}
