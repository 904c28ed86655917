package trust

import (
	"errors"
	"testing"

	"github.com/btns-ipsec/btns/identity"
)

// trust.md §7: a short string is about the session in front of the two people, recorded or not.
func TestConfirm(t *testing.T) {
	s1, s2 := signerOf(t, 1), signerOf(t, 2)
	q := Query{Addr: host, Key: s1.Public}
	t.Run("BTNS-TRUST-06 a session that is not recorded yet", func(t *testing.T) {
		b := New(Config{}, nil)
		must(t)(b.Confirm(t0, q))
		carry(t, b, q)
		rs := b.Lookup(t0, host, "")
		if len(rs) != 1 || !rs[0].Verified() || rs[0].Sessions != 1 || rs[0].Public != s1.Public || !rs[0].has(ShortString) || !rs[0].Sticky {
			t.Fatalf("%+v", rs)
		}
		judge(t, b, q, identity.Verified)
		refused(t, b, Query{Addr: host, Key: s2.Public})
	})
	t.Run("BTNS-TRUST-06 a recorded one", func(t *testing.T) {
		b := New(Config{}, nil)
		carry(t, b, q)
		must(t)(b.Confirm(t0, q))
		if rs := b.Lookup(t0, host, ""); len(rs) != 1 || !rs[0].Verified() || rs[0].Sessions != 1 {
			t.Fatalf("%+v", rs)
		}
	})
	t.Run("BTNS-TRUST-15 who came through a NAT is verified wherever it comes from, and its address stays free", func(t *testing.T) {
		b := New(Config{}, nil)
		natted := Query{Addr: host, Key: s1.Public, Inbound: true, NAT: true}
		must(t)(b.Confirm(t0, natted))
		if len(b.Lookup(t0, host, "")) != 0 || !b.Key(s1.Public.Fingerprint())[0].has(ShortString) {
			t.Fatalf("%+v", b.List())
		}
		judge(t, b, Query{Addr: home, Key: s1.Public}, identity.Verified)
		judge(t, b, Query{Addr: host, Key: s2.Public}, identity.FirstUse)
	})
	t.Run("not of a revoked key, nor of none", func(t *testing.T) {
		b := New(Config{}, nil)
		must(t)(b.Revoke(t0, s1.Public.Fingerprint()))
		if _, err := b.Confirm(t0, q); !errors.Is(err, ErrRevoked) {
			t.Error(err)
		}
		if _, err := b.Confirm(t0, Query{Addr: host}); !errors.Is(err, ErrNoRecord) {
			t.Error(err)
		}
	})
}
