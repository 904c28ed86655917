package trust

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/identity"
)

func turnedAway(t testing.TB, b *Book, q Query) {
	t.Helper()
	var e *RevokedKeyError
	if v := b.Judge(t0, q); !errors.As(v.Refuse, &e) || e.Key != q.Key.Fingerprint() || !e.Since.Equal(t0) {
		t.Fatalf("%+v", v)
	}
	if _, err := b.Carried(t0, q); !errors.As(err, &e) {
		t.Fatal(err)
	}
}

func revocationOf(t testing.TB, s identity.Signer) []byte {
	t.Helper()
	data, err := SignRevocation(nil, s)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestRevokedIsRefused(t *testing.T) {
	s1 := signerOf(t, 1)
	k1 := s1.Public.Fingerprint()
	q := Query{Addr: host, Key: s1.Public}
	t.Run("BTNS-TRUST-44 T20 a revoked key is refused at every level, in every mode, under every rule", func(t *testing.T) {
		for _, level := range []identity.Assurance{identity.FirstUse, identity.Continuity, identity.Address, identity.DNS, identity.Verified} {
			for m := AcceptNew; m <= Off; m++ {
				b := New(Config{Mode: m}, []Record{oldRecord(s1.Public, level)})
				must(t)(b.Revoke(t0, k1))
				if e := events[Revoked](b); len(e) != 1 || e[0].ByItself {
					t.Fatalf("%+v", e)
				}
				turnedAway(t, b, q)
				named := q
				named.Named = true
				turnedAway(t, b, named)
				turnedAway(t, b, Query{Addr: home, Key: s1.Public, Inbound: true, NAT: true})
				if _, err := b.Accept(t0, host, "", k1); !errors.Is(err, ErrRevoked) {
					t.Error(err)
				}
				if _, err := b.Verify(t0, host, "", k1); !errors.Is(err, ErrRevoked) {
					t.Error(err)
				}
				if _, err := b.VerifyKey(t0, k1, s1.Public); !errors.Is(err, ErrRevoked) {
					t.Error(err)
				}
			}
		}
	})
	t.Run("BTNS-TRUST-44 it survives a restart, and age", func(t *testing.T) {
		b := New(Config{}, nil)
		must(t)(b.Revoke(t0, k1))
		again := New(Config{}, b.List())
		again.Expire(t0.Add(100 * defaultLife))
		turnedAway(t, again, q)
	})
}

func TestRevokedStays(t *testing.T) {
	s1, s2 := signerOf(t, 1), signerOf(t, 2)
	k1 := s1.Public.Fingerprint()
	q := Query{Addr: host, Key: s1.Public}
	statement := revocationOf(t, s1)
	t.Run("BTNS-TRUST-44 its address stays closed to others: a thief may have revoked it", func(t *testing.T) {
		b := New(Config{}, nil)
		carry(t, b, q)
		must(t)(b.Revoke(t0, k1))
		refused(t, b, Query{Addr: host, Key: s2.Public})
		if !b.Sticky(t0, host, "") {
			t.Fatal("in clear")
		}
		must(t)(b.Accept(t0, host, "", identity.Fingerprint{}))
		judge(t, b, Query{Addr: host, Key: s2.Public}, identity.FirstUse)
	})
	t.Run("BTNS-TRUST-44 a key revokes itself, over any transport, for good", func(t *testing.T) {
		for _, form := range [][]byte{statement, []byte(RevocationText(statement)), []byte(RevocationText(statement) + "\r\n")} {
			r, err := ParseRevocation(form)
			if err != nil || r.Key() != s1.Public {
				t.Fatalf("%v, %v", r, err)
			}
			b := New(Config{}, nil)
			carry(t, b, q)
			must(t)(b.RevokeSelf(t0, r))
			b.Forget(host)
			b.ForgetKey(k1)
			turnedAway(t, b, q)
		}
		b := New(Config{}, nil)
		must(t)(b.Revoke(t0, k1))
		b.ForgetKey(k1)
		judge(t, b, q, identity.FirstUse) // an operator takes his word back
		if _, err := b.RevokeSelf(t0, Revocation{}); !errors.Is(err, ErrNoRecord) {
			t.Error(err)
		}
		if _, err := b.Revoke(t0, identity.Fingerprint{}); !errors.Is(err, ErrNoRecord) {
			t.Error(err)
		}
	})
}

func TestRevokedByItself(t *testing.T) {
	s1, s2 := signerOf(t, 1), signerOf(t, 2)
	statement := revocationOf(t, s1)
	t.Run("BTNS-TRUST-44 nobody revokes another's key", func(t *testing.T) {
		for i := range statement {
			bad := append([]byte(nil), statement...)
			bad[i] ^= 1
			if _, err := ParseRevocation(bad); !errors.Is(err, ErrRevocation) {
				t.Fatalf("octet %d: %v", i, err)
			}
			if _, err := ParseRevocation(statement[:i]); !errors.Is(err, ErrRevocation) {
				t.Fatalf("cut at %d: %v", i, err)
			}
		}
		if _, err := ParseRevocation([]byte(revocationPrefix + "!")); !errors.Is(err, ErrRevocation) {
			t.Fatal(err)
		}
		if _, err := ParseRevocation([]byte(strings.Repeat("x", maxRevocation+1))); !errors.Is(err, ErrRevocation) {
			t.Fatal(err)
		}
		f := s1.Public.Fingerprint()
		if !s1.Public.Signed(append([]byte("btns-revoke\x00\x01"), f[:]...), statement[len(statement)-64:]) {
			t.Fatal("other octets were signed")
		}
	})
	t.Run("BTNS-TRUST-17 strangers that revoke themselves take no room from others", func(t *testing.T) {
		b := New(Config{Max: 4}, nil)
		carry(t, b, Query{Addr: host, Key: s2.Public})
		must(t)(b.Carried(t0, Query{Addr: home, Key: s1.Public, Inbound: true}))
		must(t)(b.Carried(t0, Query{Addr: home, Key: s1.Public, Inbound: true}))
		r, err := ParseRevocation(statement)
		if err != nil {
			t.Fatal(err)
		}
		must(t)(b.RevokeSelf(t0, r))
		for n := byte(50); n < 80; n++ {
			data, err := SignRevocation(nil, signerOf(t, n))
			if err != nil {
				t.Fatal(err)
			}
			r, err := ParseRevocation(data)
			if err != nil {
				t.Fatal(err)
			}
			must(t)(b.RevokeSelf(t0, r))
		}
		turnedAway(t, b, Query{Addr: netip.MustParseAddr("198.51.100.1"), Key: s1.Public})
		judge(t, b, Query{Addr: host, Key: s2.Public}, identity.Continuity)
	})
}

// What a key said about its end stays as long as anybody here wanted to have to do with it, however briefly.
func TestRevokedByItselfStays(t *testing.T) {
	s1 := signerOf(t, 1)
	k1 := s1.Public.Fingerprint()
	statement := func(s identity.Signer) Revocation {
		r, err := ParseRevocation(revocationOf(t, s))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	for name, known := range map[string]func(b *Book){
		"we went to it once":        func(b *Book) { carry(t, b, Query{Addr: host, Key: s1.Public}) },
		"it was asked for by name":  func(b *Book) { carry(t, b, Query{Name: "host.example", Key: s1.Public}) },
		"an operator let it in":     func(b *Book) { must(t)(b.Accept(t0, host, "", k1)) },
		"an operator vouched again": func(b *Book) { must(t)(b.VerifyKey(t0, k1, s1.Public)) },
	} {
		t.Run("BTNS-TRUST-44 BTNS-TRUST-17 "+name, func(t *testing.T) {
			b := New(Config{Max: 6}, nil)
			known(b)
			must(t)(b.RevokeSelf(t0, statement(s1)))
			for n := byte(50); n < 80; n++ {
				must(t)(b.RevokeSelf(t0.Add(time.Duration(n)*time.Second), statement(signerOf(t, n))))
			}
			turnedAway(t, b, Query{Addr: host, Key: s1.Public})
			turnedAway(t, New(Config{Max: 6}, b.List()), Query{Addr: home, Key: s1.Public})
		})
	}
}

func TestRevocationGoesLast(t *testing.T) {
	t.Run("BTNS-TRUST-44 BTNS-TRUST-17 the end of a stranger's key does not go before its other records", func(t *testing.T) {
		s1 := signerOf(t, 1)
		b := New(Config{Max: 3}, nil)
		carry(t, b, Query{Addr: home, Key: signerOf(t, 2).Public})
		carry(t, b, Query{Addr: host, Key: s1.Public, Inbound: true})
		for _, s := range []identity.Signer{s1, signerOf(t, 3)} {
			r, err := ParseRevocation(revocationOf(t, s))
			if err != nil {
				t.Fatal(err)
			}
			must(t)(b.RevokeSelf(t0, r))
		}
		turnedAway(t, b, Query{Addr: host, Key: s1.Public, Inbound: true})
	})
}

func FuzzParseRevocation(f *testing.F) {
	data, err := SignRevocation(nil, signerOf(f, 1))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(RevocationText(data)))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := ParseRevocation(b); err == nil && r.Key().IsZero() {
			t.Fatal("no key was revoked")
		}
	})
}
