package trust

import (
	"bytes"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/identity"
)

var (
	t0   = time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)
	host = netip.MustParseAddr("203.0.113.7")
	home = netip.MustParseAddr("192.168.1.1")
)

func key(t testing.TB, n byte) identity.PublicKey {
	t.Helper()
	s, err := identity.NewEd25519(bytes.NewReader(bytes.Repeat([]byte{n}, 32)))
	if err != nil {
		t.Fatal(err)
	}
	return s.Public
}

func judge(t testing.TB, b *Book, q Query, want identity.Assurance) {
	t.Helper()
	if v := b.Judge(t0, q); v.Refuse != nil || v.Assurance != want {
		t.Fatalf("%v, %v; want %v", v.Assurance, v.Refuse, want)
	}
}

func refused(t testing.TB, b *Book, q Query) *KeyChangedError {
	t.Helper()
	var e *KeyChangedError
	if v := b.Judge(t0, q); !errors.As(v.Refuse, &e) {
		t.Fatalf("not refused: %v, %v", v.Assurance, v.Refuse)
	}
	return e
}

func carry(t testing.TB, b *Book, q Query) []Change {
	t.Helper()
	ch, err := b.Carried(t0, q)
	if err != nil {
		t.Fatal(err)
	}
	return ch
}

// store replays changes as a store would, so that book and store can be compared.
type store map[string]Record

func (s store) apply(ch []Change) {
	for _, c := range ch {
		switch c := c.(type) {
		case Put:
			s[c.Record.ID()] = c.Record
		case Delete:
			delete(s, c.Record.ID())
		}
	}
}

// TRUST-T01, TRUST-T02, TRUST-T03: first use, continuity, and a changed key that changes nothing.
func TestLeapOfFaith(t *testing.T) {
	b, s := New(Config{}, nil), store{}
	k1, k2 := key(t, 1), key(t, 2)
	q := Query{Addr: host, Key: k1}
	judge(t, b, q, identity.FirstUse)
	if b.Len() != 0 {
		t.Fatal("recorded before anything was carried") // BTNS-TRUST-16
	}
	s.apply(carry(t, b, q))
	judge(t, b, q, identity.Continuity)
	if !b.Sticky(t0, host, "") {
		t.Fatal("remembered means required")
	}
	before := s[b.List()[0].ID()]
	e := refused(t, b, Query{Addr: host, Key: k2})
	if e.Want != k1.Fingerprint() || e.Got != k2.Fingerprint() || !e.Since.Equal(t0) || e.Inbound {
		t.Fatalf("%+v", e)
	}
	if _, err := b.Carried(t0, Query{Addr: host, Key: k2}); !errors.As(err, &e) { // TRUST-T11, BTNS-TRUST-34
		t.Fatalf("the second of two first keys: %v", err)
	}
	refused(t, b, Query{Addr: host, Key: k2}) // BTNS-TRUST-32
	if l := b.List(); len(l) != 1 || l[0].Key != before.Key || l[0].Sessions != 1 {
		t.Fatalf("%+v", l)
	}
	if r := b.Refused(host, ""); len(r) != 1 || r[0].Count != 3 || r[0].Key != k2 {
		t.Fatalf("%+v", r)
	}

	ch, err := b.Accept(t0, host, "", identity.Fingerprint{})
	if err != nil {
		t.Fatal(err)
	}
	s.apply(ch)
	judge(t, b, Query{Addr: host, Key: k2}, identity.FirstUse)
	refused(t, b, q)
	if len(s) != 1 || !b.Sticky(t0, host, "") || len(b.Refused(host, "")) != 1 {
		t.Fatalf("%+v", s)
	}
	s.apply(b.Forget(host))
	if len(s) != 0 || b.Len() != 0 || b.Sticky(t0, host, "") || len(b.Refused(host, "")) != 0 {
		t.Fatal("not forgotten")
	}
	judge(t, b, q, identity.FirstUse)
}

// BTNS-TRUST-10; TRUST-T04, TRUST-T05.
func TestModes(t *testing.T) {
	k1, k2 := key(t, 1), key(t, 2)
	for _, m := range []Mode{Strict, Ask} {
		b := New(Config{Mode: m}, nil)
		var e *UnknownKeyError
		if v := b.Judge(t0, Query{Addr: host, Key: k1}); !errors.As(v.Refuse, &e) || e.Mode != m {
			t.Fatalf("%v: %v", m, v)
		}
		judge(t, b, Query{Addr: host, Key: k1, Named: true}, identity.Verified)
		if _, err := b.Accept(t0, host, "", identity.Fingerprint{}); err != nil {
			t.Fatal(err)
		}
		judge(t, b, Query{Addr: host, Key: k1}, identity.FirstUse)
		refused(t, b, Query{Addr: host, Key: k2})
	}
	b := New(Config{Mode: Off}, nil)
	carry(t, b, Query{Addr: host, Key: k1})
	judge(t, b, Query{Addr: host, Key: k2}, identity.FirstUse)
	carry(t, b, Query{Addr: host, Key: k2})
	if l := b.List(); len(l) != 1 || l[0].Key != k2.Fingerprint() {
		t.Fatalf("%+v", l)
	}
	if _, err := b.Verify(t0, host, "", k2.Fingerprint()); err != nil {
		t.Fatal(err)
	}
	judge(t, b, Query{Addr: host, Key: k2}, identity.Verified)
	refused(t, b, Query{Addr: host, Key: k1})
	for m := AcceptNew; m <= Off; m++ {
		if back, err := ParseMode(m.String()); err != nil || back != m {
			t.Errorf("%v", m)
		}
	}
	if _, err := ParseMode("maybe"); err == nil {
		t.Error("no such mode")
	}
}

// TRUST-T09, BTNS-NULL-14: without a key there is no way past a recorded one.
func TestNullAfterPin(t *testing.T) {
	b := New(Config{}, nil)
	judge(t, b, Query{Addr: host}, identity.Encrypted)
	if ch := carry(t, b, Query{Addr: host}); len(ch) != 0 {
		t.Fatal("a peer without a key is not recorded")
	}
	carry(t, b, Query{Addr: host, Key: key(t, 1)})
	var e *DowngradeError
	if v := b.Judge(t0, Query{Addr: host}); !errors.As(v.Refuse, &e) {
		t.Fatal(v)
	}
}

// design.md, who is recorded (refines BTNS-TRUST-20): what only came inbound defends its address by being alive.
func TestInboundOnly(t *testing.T) {
	t.Run("BTNS-TRUST-20 who only came to us pins no address", func(t *testing.T) {
		b, s := New(Config{}, nil), store{}
		k1, k2 := key(t, 1), key(t, 2)
		s.apply(carry(t, b, Query{Addr: host, Key: k1, Inbound: true}))
		if b.Sticky(t0, host, "") {
			t.Fatal("a stranger who calls must not bind us")
		}
		judge(t, b, Query{Addr: host, Key: k1, Inbound: true}, identity.Continuity)
		if e := refused(t, b, Query{Addr: host, Key: k2}); !e.Inbound {
			t.Fatalf("%+v", e)
		}
		judge(t, b, Query{Addr: host, Key: k2, OldGone: true}, identity.FirstUse)
		s.apply(carry(t, b, Query{Addr: host, Key: k2, OldGone: true}))
		if len(s) != 1 || !b.Sticky(t0, host, "") {
			t.Fatalf("%+v", s)
		}
		if e := refused(t, b, Query{Addr: host, Key: k1, OldGone: true}); e.Inbound {
			t.Fatal("a key that we went to is not displaced")
		}
	})
}

// BTNS-TRUST-15, TRUST-T15: hosts behind a NAT are known by key; its address says nothing, unless we went to it.
func TestBehindNAT(t *testing.T) {
	b := New(Config{}, nil)
	for n := byte(1); n <= 10; n++ {
		q := Query{Addr: host, Key: key(t, n), Inbound: true, NAT: true}
		judge(t, b, q, identity.FirstUse)
		carry(t, b, q)
		judge(t, b, q, identity.Continuity)
	}
	if b.Sticky(t0, host, "") || len(b.Lookup(t0, host, "")) != 0 || b.Len() != 10 {
		t.Fatalf("%+v", b.List())
	}
	carry(t, b, Query{Addr: host, Key: key(t, 1), NAT: true})
	if !b.Sticky(t0, host, "") {
		t.Fatal("a forwarded address that we went to is pinned")
	}
	refused(t, b, Query{Addr: host, Key: key(t, 2), Inbound: true, NAT: true})
}

// design.md, sticky without lock-out.
func TestStickyEnds(t *testing.T) {
	b := New(Config{}, nil)
	k := key(t, 1)
	q := Query{Addr: host, Key: k}
	carry(t, b, q)
	if ch := b.Suspend(k.Fingerprint()); len(ch) != 1 || b.Sticky(t0, host, "") {
		t.Fatal("a peer that left in good order may be silent")
	}
	carry(t, b, q)
	if !b.Sticky(t0, host, "") {
		t.Fatal("it is back")
	}
	b.SetEssential([]netip.Addr{host})
	if b.Sticky(t0, host, "") {
		t.Fatal("the default gateway is never locked out")
	}
	refused(t, b, Query{Addr: host, Key: key(t, 2)})
}

// Private addresses belong to a network: 192.168.1.1 at home and in a café are two.
func TestNetworks(t *testing.T) {
	b := New(Config{}, nil)
	carry(t, b, Query{Addr: home, Network: "home", Key: key(t, 1)})
	judge(t, b, Query{Addr: home, Network: "café", Key: key(t, 2)}, identity.FirstUse)
	refused(t, b, Query{Addr: home, Network: "home", Key: key(t, 2)})
	carry(t, b, Query{Addr: host, Network: "home", Key: key(t, 1)})
	refused(t, b, Query{Addr: host, Network: "café", Key: key(t, 2)})
	if b.Sticky(t0, home, "café") || !b.Sticky(t0, home, "home") || !b.Sticky(t0, host, "café") {
		t.Fatal("stickiness follows the place")
	}
	if ch := b.Forget(home); len(ch) != 1 {
		t.Fatalf("%+v", ch)
	}
	for text, want := range map[string]bool{
		"10.1.2.3": true, "172.31.0.1": true, "172.32.0.1": false, "100.64.0.1": true, "fd00::1": true, "fe80::1%e": true,
		"2001:db8::1": false, "198.51.100.1": false, "::ffff:10.0.0.1": true,
	} {
		if Scoped(netip.MustParseAddr(text)) != want {
			t.Errorf("%s", text)
		}
	}
}

// BTNS-TRUST-14, TRUST-T21: address records age, verified ones do not; a session in use keeps its record young.
func TestAge(t *testing.T) {
	b := New(Config{}, nil)
	k1, k2 := key(t, 1), key(t, 2)
	carry(t, b, Query{Addr: host, Key: k1})
	carry(t, b, Query{Addr: home, Key: k1})
	if _, err := b.Verify(t0, home, "", k1.Fingerprint()); err != nil {
		t.Fatal(err)
	}
	later := t0.Add(31 * 24 * time.Hour)
	if len(b.Alive(t0.Add(time.Minute), Query{Addr: host, Key: k1})) != 0 {
		t.Fatal("the store is not written for every packet")
	}
	if b.Sticky(later, host, "") || !b.Sticky(later, home, "") {
		t.Fatal("stickiness ends with the record")
	}
	if v := b.Judge(later, Query{Addr: host, Key: k2}); v.Refuse != nil || v.Assurance != identity.FirstUse {
		t.Fatal(v)
	}
	if v := b.Judge(later, Query{Addr: host, Key: key(t, 3)}); v.Assurance != identity.FirstUse {
		t.Fatal(v)
	}
	if v := b.Judge(later, Query{Addr: host, Key: k1}); v.Assurance != identity.Verified {
		t.Fatal("what was compared is the key, wherever it is (BTNS-TRUST-06)", v)
	}
	if ch := b.Alive(t0.Add(29*24*time.Hour), Query{Addr: host, Key: k1}); len(ch) != 1 || !b.Sticky(later, host, "") {
		t.Fatal("seen two days ago")
	}
	if ch := b.Expire(later.Add(60 * 24 * time.Hour)); len(ch) != 1 || b.Len() != 1 {
		t.Fatalf("%+v", ch)
	}
}

// TRUST-T12, BTNS-TRUST-17: a flood of keys evicts only keys that came once.
func TestFlood(t *testing.T) {
	b, s := New(Config{Max: 1000}, nil), store{}
	k := key(t, 1)
	t.Run("BTNS-CORE-64 a flood of strangers evicts strangers only", func(t *testing.T) {
		s.apply(carry(t, b, Query{Addr: host, Key: k}))
		s.apply(carry(t, b, Query{Addr: home, Key: k, Inbound: true}))
		s.apply(carry(t, b, Query{Addr: home, Key: k, Inbound: true}))
		var strangers []identity.PublicKey
		for n := range 64 {
			strangers = append(strangers, key(t, byte(100+n)))
		}
		flood := 100_000
		if testing.Short() {
			flood = 10_000
		}
		for i := range flood {
			a := netip.AddrFrom4([4]byte{11, byte(i >> 16), byte(i >> 8), byte(i)})
			ch, err := b.Carried(t0.Add(time.Duration(i)), Query{Addr: a, Key: strangers[i%64], Inbound: true})
			if err != nil {
				t.Fatal(err)
			}
			s.apply(ch)
		}
		if b.Len() > 1000 || len(s) != b.Len() {
			t.Fatalf("%d records, %d stored", b.Len(), len(s))
		}
		if len(b.Lookup(t0, host, "")) != 1 || len(b.Lookup(t0, home, "")) != 1 {
			t.Fatal("what came again was evicted")
		}
	})

	full := New(Config{Max: 1}, nil)
	carry(t, full, Query{Addr: host, Key: k})
	if _, err := full.Carried(t0, Query{Addr: home, Key: k}); !errors.Is(err, ErrFull) || full.Len() != 1 {
		t.Fatalf("%v", err)
	}
	other := key(t, 2)
	for i := range 5000 {
		b.Judge(t0, Query{Addr: netip.AddrFrom4([4]byte{11, 0, byte(i >> 8), byte(i)}), Key: other})
	}
	if len(b.refusals.at) > maxRefusedPlaces || len(b.refusals.at) != len(b.refusals.order) {
		t.Fatalf("%d places of refusals", len(b.refusals.at))
	}
}
