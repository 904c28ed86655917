package trust

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/identity"
)

// The key is the identity; names and addresses are observations about it.

func TestSelectors(t *testing.T) {
	k1, k2 := key(t, 1), key(t, 2)
	const name = "host.example:22"
	q := Query{Addr: host, Name: name, Key: k1}
	t.Run("BTNS-TRUST-11 a record holds what is known", func(t *testing.T) {
		b := New(Config{}, nil)
		carry(t, b, q)
		rs := b.Key(k1.Fingerprint())
		if len(rs) != 2 || rs[0].Name != name || rs[1].Addr != host || rs[0].Algorithm() != "Ed25519" || rs[0].Public != k1 ||
			rs[0].Sessions != 1 || !rs[0].FirstSeen.Equal(t0) || !rs[0].LastSeen.Equal(t0) || !rs[0].Sticky ||
			len(rs[0].Evidence) != 1 || rs[0].Assurance != identity.FirstUse {
			t.Fatalf("%+v", rs)
		}
	})
	t.Run("BTNS-TRUST-12 selectors are names with ports and addresses with zones; several keys and several places", func(t *testing.T) {
		for in, want := range map[string]string{
			"Host.Example.": "host.example", "xn--bcher-kva.example:443": "xn--bcher-kva.example:443", "a_b-c": "a_b-c",
			"bücher.example": "", "": "", ".": "", "a..b": "", "a:0": "", "a:65536": "", "a:022": "", "a:": "", "192.0.2.1": "",
			strings.Repeat("a", 64): "", strings.Repeat("a.", 127) + "b": "", "a b": "",
		} {
			if got, err := ParseName(in); got != want || (err == nil) != (want != "") {
				t.Errorf("%q: %q, %v", in, got, err)
			}
		}
		b := New(Config{}, nil)
		local := netip.MustParseAddr("fe80::1%eth0")
		carry(t, b, Query{Addr: local, Key: k1})
		judge(t, b, Query{Addr: local.WithZone("eth1"), Key: k2}, identity.FirstUse)
		refused(t, b, Query{Addr: local, Key: k2})
		must(t)(b.AcceptBeside(t0, local, "", k2.Fingerprint()))
		judge(t, b, Query{Addr: local, Key: k1}, identity.Continuity)
		judge(t, b, Query{Addr: local, Key: k2}, identity.FirstUse)
		carry(t, b, Query{Addr: host, Key: k2})
		if rs := b.Key(k2.Fingerprint()); len(rs) != 2 {
			t.Fatalf("%+v", rs)
		}
	})
}

func TestNamesBeforeAddresses(t *testing.T) {
	k1, k2 := key(t, 1), key(t, 2)
	const name = "host.example:22"
	q := Query{Addr: host, Name: name, Key: k1}
	t.Run("BTNS-TRUST-13 the name comes first, and the address only warns", func(t *testing.T) {
		b := New(Config{}, nil)
		carry(t, b, q)
		judge(t, b, q, identity.Continuity)
		moved := q
		moved.Addr = netip.MustParseAddr("198.51.100.1")
		judge(t, b, moved, identity.Continuity)
		carry(t, b, Query{Addr: moved.Addr, Key: k2}) // somebody else has that address
		v := b.Judge(t0, moved)
		if v.Refuse != nil || v.Assurance != identity.Continuity || v.Warn == nil || v.Warn.Want != k2.Fingerprint() {
			t.Fatalf("%+v", v)
		}
		carry(t, b, moved)
		if rs := b.Lookup(t0, moved.Addr, ""); len(rs) != 1 || rs[0].Key != k2.Fingerprint() {
			t.Fatalf("a warning displaced a record: %+v", rs)
		}
		posing := Query{Addr: moved.Addr, Name: name, Key: k2} // right for the address, wrong for the name
		if e := refused(t, b, posing); e.Name != name || !strings.Contains(e.Error(), name) {
			t.Fatalf("%+v", e)
		}
		if _, err := b.Carried(t0, posing); err == nil {
			t.Fatal("recorded")
		}
		var down *DowngradeError
		if v := b.Judge(t0, Query{Addr: moved.Addr, Name: name}); !errors.As(v.Refuse, &down) {
			t.Fatalf("%+v", v)
		}
		fresh := Query{Addr: host, Name: "new.example", Key: k2} // an unknown name is no way past the pin of an address
		refused(t, b, fresh)
		must(t)(b.VerifyName(t0, name, identity.Fingerprint{}))
		judge(t, b, q, identity.Verified)
		if ch := b.ForgetName(name); len(ch) != 1 {
			t.Fatalf("%+v", ch)
		}
	})
	t.Run("BTNS-TRUST-14 T21 an address ages with an event, a name does not", func(t *testing.T) {
		b := New(Config{}, nil)
		carry(t, b, q)
		b.Events()
		later := t0.Add(defaultLife + time.Second)
		if b.Sticky(later, host, "") {
			t.Fatal("stickiness ends with the record")
		}
		if ch := b.Expire(later); len(ch) != 1 {
			t.Fatalf("%+v", ch)
		}
		if e := events[Unstuck](b); len(e) != 1 || e[0].Place.Addr != host || e[0].Why != Aged {
			t.Fatalf("%+v", e)
		}
		if v := b.Judge(later, Query{Name: name, Key: k2}); v.Refuse == nil {
			t.Fatal("the name is still this key's")
		}
		if r := b.Refused(netip.Addr{}, ""); len(r) != 0 {
			t.Fatalf("%+v", r)
		}
	})
	t.Run("BTNS-TRUST-16 nothing is written before packets went both ways, nor for a failed handshake", func(t *testing.T) {
		b := New(Config{}, nil)
		b.Judge(t0, q)
		b.Assess(t0, q)
		b.Alive(t0, q)
		b.Judge(t0, Query{Addr: host, Key: k2})
		if b.Len() != 0 {
			t.Fatalf("%+v", b.List())
		}
	})
}

func TestSharedAddresses(t *testing.T) {
	keys := make([]identity.PublicKey, 12)
	for i := range keys {
		keys[i] = key(t, byte(i+1))
	}
	t.Run("BTNS-TRUST-15 T15 ten keys behind a NAT are noticed, and a pin that we made holds against them", func(t *testing.T) {
		b := New(Config{}, nil)
		for _, k := range keys[:10] {
			carry(t, b, Query{Addr: host, Key: k, Inbound: true, NAT: true})
			carry(t, b, Query{Addr: host, Key: k, Inbound: true, NAT: true})
		}
		if e := events[Shared](b); len(e) != 1 || e[0].Place.Addr != host || e[0].Count != manyKeys+1 {
			t.Fatalf("%+v", e)
		}
		carry(t, b, Query{Addr: host, Key: keys[0], NAT: true})
		refused(t, b, Query{Addr: host, Key: keys[1], Inbound: true, NAT: true})
		for i := range 2 * maxCrowds {
			b.crowd(&Query{Addr: netip.AddrFrom4([4]byte{11, 0, byte(i >> 8), byte(i)}), Inbound: true, NAT: true}, keys[0].Fingerprint())
		}
		if len(b.crowds.at) > maxCrowds || len(b.crowds.at) != len(b.crowds.order) {
			t.Fatalf("%d addresses", len(b.crowds.at))
		}
	})
	t.Run("BTNS-TRUST-15 a load balancer: more than four keys that an operator let in switch pinning off", func(t *testing.T) {
		b := New(Config{}, nil)
		carry(t, b, Query{Addr: host, Key: keys[0]})
		for _, k := range keys[1 : manyKeys+1] {
			refused(t, b, Query{Addr: host, Key: k})
			must(t)(b.AcceptBeside(t0, host, "", k.Fingerprint()))
			judge(t, b, Query{Addr: host, Key: k}, identity.FirstUse)
		}
		if e := events[Shared](b); len(e) != 1 || e[0].Count != manyKeys+1 {
			t.Fatalf("%+v", e)
		}
		for _, k := range keys[manyKeys+1:] {
			judge(t, b, Query{Addr: host, Key: k}, identity.FirstUse)
			carry(t, b, Query{Addr: host, Key: k})
			judge(t, b, Query{Addr: host, Key: k}, identity.Continuity)
		}
		if rs := b.Lookup(t0, host, ""); len(rs) != manyKeys+1 || !b.Sticky(t0, host, "") {
			t.Fatalf("%d records of the address", len(rs))
		}
		must(t)(b.Verify(t0, host, "", keys[0].Fingerprint()))
		stranger := key(t, 99)
		refused(t, b, Query{Addr: host, Key: stranger}) // now the operator has said which keys are meant
	})
	t.Run("several addresses of one key are one peer, and many are noticed", func(t *testing.T) {
		b := New(Config{}, nil)
		for i := range manyKeys + 2 {
			q := Query{Addr: netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}), Key: keys[0]}
			judge(t, b, q, identity.FirstUse)
			carry(t, b, q)
			judge(t, b, q, identity.Continuity)
		}
		if e := events[Shared](b); len(e) != 1 || e[0].Key != keys[0].Fingerprint() || !e[0].Place.IsZero() {
			t.Fatalf("%+v", e)
		}
	})
}

func TestRecycledRanges(t *testing.T) {
	k1, k2, k3 := key(t, 1), key(t, 2), key(t, 3)
	pods := netip.MustParsePrefix("10.42.0.0/16")
	pod := netip.MustParseAddr("10.42.7.7")
	t.Run("keys that follow one another at an address raise no alarm, and each is known by itself", func(t *testing.T) {
		b := New(Config{Recycled: []netip.Prefix{pods}}, nil)
		for _, k := range []identity.PublicKey{k1, k2, k1} {
			if v := b.Judge(t0, Query{Addr: pod, Key: k}); v.Refuse != nil {
				t.Fatal(v.Refuse)
			}
			carry(t, b, Query{Addr: pod, Key: k})
		}
		judge(t, b, Query{Addr: netip.MustParseAddr("10.42.9.9"), Key: k1}, identity.Continuity)
		if b.Sticky(t0, pod, "") || b.Len() != 2 {
			t.Fatalf("%+v", b.List())
		}
		must(t)(b.Accept(t0, pod, "", k3.Fingerprint()))
		judge(t, b, Query{Addr: pod, Key: k2}, identity.Continuity)
	})
	t.Run("what an operator verified there holds", func(t *testing.T) {
		b := New(Config{Recycled: []netip.Prefix{pods}}, []Record{{
			Addr: pod, Key: k1.Fingerprint(), Public: k1, Assurance: identity.Verified, Evidence: []Evidence{{Compared, t0}}, Sticky: true,
		}})
		refused(t, b, Query{Addr: pod, Key: k2})
		judge(t, b, Query{Addr: pod, Key: k1}, identity.Verified)
		if !b.Sticky(t0, pod, "") {
			t.Fatal("loose")
		}
	})
	t.Run("declaring a range loosens what is recorded in it, with events", func(t *testing.T) {
		b, s := New(Config{}, nil), store{}
		s.apply(carry(t, b, Query{Addr: pod, Key: k1}))
		s.apply(carry(t, b, Query{Addr: pod, Key: k1}))
		s.apply(carry(t, b, Query{Addr: host, Key: k2}))
		refused(t, b, Query{Addr: pod, Key: k2})
		b.Events()
		s.apply(b.SetRecycled(t0, []netip.Prefix{pods}))
		if e := events[Unstuck](b); len(e) != 1 || e[0].Why != Recycled {
			t.Fatalf("%+v", e)
		}
		judge(t, b, Query{Addr: pod, Key: k2}, identity.FirstUse)
		judge(t, b, Query{Addr: pod, Key: k1}, identity.Continuity)
		refused(t, b, Query{Addr: host, Key: k1})
		if len(s) != 2 || b.Len() != 2 {
			t.Fatalf("%+v", s)
		}
	})
}

func TestClones(t *testing.T) {
	k := key(t, 1)
	a1, a2, six := netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("198.51.100.2"), netip.MustParseAddr("2001:db8::2")
	at := func(a netip.Addr, i byte) Query { return Query{Addr: a, Key: k, Instance: Instance{i}} }
	type step struct {
		after int // seconds
		q     Query
	}
	for name, c := range map[string]struct {
		steps   []step
		want    int
		certain bool
	}{
		"two machines with one key, alive at the same time": {[]step{{0, at(a1, 1)}, {60, at(a2, 2)}, {90, at(a1, 1)}, {120, at(a2, 2)}}, 1, true},
		"two machines behind one NAT":                       {[]step{{0, at(a1, 1)}, {60, at(a1, 2)}, {90, at(a1, 1)}}, 1, true},
		"one machine with two addresses":                    {[]step{{0, at(a1, 1)}, {60, at(a2, 1)}, {90, at(a1, 1)}, {120, at(a2, 1)}}, 0, false},
		"a machine that restarts":                           {[]step{{0, at(a1, 1)}, {30, at(a1, 2)}, {60, at(a1, 2)}, {90, at(a1, 2)}}, 0, false},
		"a machine that moves":                              {[]step{{0, at(a1, 1)}, {60, at(a2, 1)}, {90, at(a2, 1)}}, 0, false},
		"a machine that comes back after a while":           {[]step{{0, at(a1, 1)}, {60, at(a2, 2)}, {600, at(a1, 1)}}, 0, false},
		"peers that do not name themselves":                 {[]step{{0, at(a1, 0)}, {60, at(a2, 0)}, {90, at(a1, 0)}}, 1, false},
		"both families of one that does not name itself":    {[]step{{0, at(a1, 0)}, {60, at(six, 0)}, {90, at(a1, 0)}}, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			b := New(Config{}, nil)
			for _, s := range c.steps {
				q, now := s.q, t0.Add(time.Duration(s.after)*time.Second)
				b.Quiet(now) // forgets nothing that counts
				if _, err := b.Carried(now, q); err != nil {
					t.Fatal(err)
				}
			}
			e := events[Cloned](b)
			if len(e) != c.want || len(e) > 0 && (e[0].Certain != c.certain || e[0].Key != k.Fingerprint()) {
				t.Fatalf("%+v", e)
			}
		})
	}
	t.Run("an operator who let the key in at both knows of it", func(t *testing.T) {
		b := New(Config{}, nil)
		must(t)(b.Accept(t0, a1, "", k.Fingerprint()))
		must(t)(b.Accept(t0, a2, "", k.Fingerprint()))
		for i := range 6 {
			b.Alive(t0.Add(time.Duration(i)*time.Second), at([]netip.Addr{a1, a2}[i%2], 0))
		}
		if e := events[Cloned](b); len(e) != 0 {
			t.Fatalf("%+v", e)
		}
	})
	t.Run("the alarm comes once an hour, and memory is bounded", func(t *testing.T) {
		b := New(Config{}, nil)
		carry(t, b, at(a1, 1))
		for i := range 7200 {
			b.Alive(t0.Add(time.Duration(i)*time.Second), at(netip.AddrFrom4([4]byte{198, 51, 100, byte(i % 20)}), byte(i%20+1)))
			b.Alive(t0.Add(time.Duration(i)*time.Second), at(a1, 1))
		}
		if n := len(b.alive[k.Fingerprint()].seen); n > maxSightings {
			t.Fatalf("%d sightings", n)
		}
		if e := events[Cloned](b); len(e) < 1 || len(e) > 3 {
			t.Fatalf("%d alarms in two hours", len(e))
		}
		b.ForgetKey(k.Fingerprint())
		if len(b.alive) != 0 {
			t.Fatal("not forgotten")
		}
	})
}

// BTNS-TRUST-21, BTNS-CORE-11, TRUST-T22: a pinned address is that of its keys alone.
func TestPins(t *testing.T) {
	s1, s2 := signerOf(t, 1), signerOf(t, 2)
	k3 := key(t, 3)
	b := New(Config{}, nil)
	carry(t, b, Query{Addr: host, Key: s1.Public})
	carry(t, b, Query{Addr: home, Network: "home", Key: s1.Public})
	carry(t, b, Query{Addr: netip.MustParseAddr("198.51.100.5"), Key: k3, Inbound: true})
	handOver(t, b, s1, s2, identity.Continuity)
	pins := b.Pins(t0, "home")
	if len(pins) != 2 || pins[0].Addr != home || pins[1].Addr != host || !slices.Contains(pins[1].Keys, s1.Public.Fingerprint()) ||
		!slices.Contains(pins[1].Keys, s2.Public.Fingerprint()) || len(pins[1].Keys) != 2 {
		t.Fatalf("%+v", pins)
	}
	if p := b.Pins(t0, "café"); len(p) != 1 || p[0].Addr != host {
		t.Fatalf("%+v", p)
	}
	for k, want := range map[identity.Fingerprint]bool{s1.Public.Fingerprint(): false, s2.Public.Fingerprint(): false, k3.Fingerprint(): true, {}: true} {
		if got := b.Pinned(t0, host, "", k); got != want {
			t.Errorf("%v: %v", k, got)
		}
	}
	if b.Pinned(t0, netip.MustParseAddr("198.51.100.5"), "", s1.Public.Fingerprint()) || b.Pinned(t0, home, "café", k3.Fingerprint()) {
		t.Error("what only came to us, or is elsewhere, is no pin")
	}
	if b.Pinned(t0.Add(31*24*time.Hour), host, "", k3.Fingerprint()) {
		t.Error("a pin ages")
	}
}

// Where a key was alive is known for as long as it counts, and an alarm about it for as long as it is not repeated.
func TestQuiet(t *testing.T) {
	b := New(Config{}, nil)
	const many = 100
	for i := range byte(many) {
		must(t)(b.Carried(t0, Query{Addr: netip.AddrFrom4([4]byte{198, 51, 100, i}), Key: key(t, i)}))
	}
	for i := range 3 { // key 0 is in two places
		must(t)(b.Carried(t0.Add(time.Duration(i+1)*time.Second), Query{Addr: netip.AddrFrom4([4]byte{198, 51, 100, 200 * byte(i%2)}), Key: key(t, 0)}))
	}
	if len(events[Cloned](b)) != 1 {
		t.Fatal("the key in two places is not noticed")
	}
	for _, c := range []struct {
		after time.Duration
		want  int
	}{{seenLately, many}, {seenLately + time.Minute, 1}, {alarmAgain, 1}, {alarmAgain + time.Minute, 0}} {
		if b.Quiet(t0.Add(c.after)); len(b.alive) != c.want {
			t.Errorf("after %v %d keys count as alive, want %d", c.after, len(b.alive), c.want)
		}
	}
}
