package trust

import (
	"bytes"
	"crypto/rand"
	"errors"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/identity"
)

var binding = identity.Binding{1, 2, 3}

func signerOf(t testing.TB, n byte) identity.Signer {
	t.Helper()
	s, err := identity.NewEd25519(bytes.NewReader(bytes.Repeat([]byte{n}, 32)))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// list is what old sends in a session: the announcement, read back.
func list(t testing.TB, under identity.Binding, old identity.Signer, from time.Time, next ...identity.Signer) []Announced {
	t.Helper()
	var keys []Upcoming
	for _, s := range next {
		keys = append(keys, Upcoming{s, from})
	}
	data, err := Announce(rand.Reader, under, old.Public, keys)
	if err != nil {
		t.Fatal(err)
	}
	out, err := ParseAnnouncement(data)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func handOver(t testing.TB, b *Book, old, next identity.Signer, level identity.Assurance) []Change {
	t.Helper()
	ch, err := b.Succeed(t0, Query{Addr: host, Key: old.Public, Level: level}, binding, list(t, binding, old, t0, next))
	if err != nil {
		t.Fatal(err)
	}
	return ch
}

// later is a session of a key that was known before it.
func later(s identity.Signer) Query {
	return Query{Addr: host, Key: s.Public, Level: identity.Continuity}
}

// inUse is a book in which the first key is known.
func inUse(t testing.TB) *Book {
	t.Helper()
	b := New(Config{}, nil)
	carry(t, b, later(signerOf(t, 1)))
	carry(t, b, later(signerOf(t, 1)))
	b.Events()
	return b
}

func TestAnnouncement(t *testing.T) {
	s1, s2, s3 := signerOf(t, 1), signerOf(t, 2), signerOf(t, 3)
	q1, q2 := later(s1), later(s2)
	t.Run("BTNS-TRUST-40 a list is bound to its IKE SA, to the old key and to the holder of the new one", func(t *testing.T) {
		a := list(t, binding, s1, t0, s2)[0]
		if !a.Proven(binding, s1.Public) || a.Key != s2.Public || !a.From.Equal(t0) {
			t.Fatalf("%+v", a)
		}
		if a.Proven(identity.Binding{9}, s1.Public) || a.Proven(binding, s3.Public) {
			t.Fatal("proven elsewhere")
		}
		forged := a
		forged.Key = s3.Public
		if forged.Proven(binding, s1.Public) {
			t.Fatal("a key of somebody else")
		}
	})
	t.Run("BTNS-TRUST-40 the octets", func(t *testing.T) {
		data, err := Announce(nil, binding, s1.Public, []Upcoming{{s2, time.Unix(0x0102030405, 0)}})
		if err != nil {
			t.Fatal(err)
		}
		spki := s2.Public.SPKI()
		want := append([]byte{1, 1, 0, 0, 0, 1, 2, 3, 4, 5, 0, byte(len(spki))}, spki...)
		want = append(want, 0, 64)
		f := s1.Public.Fingerprint()
		signed := append(append(append([]byte("btns-rotate\x00\x01"), binding[:]...), f[:]...), spki...)
		if !bytes.HasPrefix(data, want) || !s2.Public.Signed(signed, data[len(want):]) {
			t.Fatalf("%x", data)
		}
		for cut := range len(data) {
			if _, err := ParseAnnouncement(data[:cut]); !errors.Is(err, ErrAnnouncement) {
				t.Fatalf("cut at %d: %v", cut, err)
			}
		}
		if _, err := ParseAnnouncement(append(bytes.Clone(data), 0)); !errors.Is(err, ErrAnnouncement) {
			t.Fatal("octets after the end")
		}
	})
	t.Run("BTNS-TRUST-41 T06 the level is kept, without an alarm", func(t *testing.T) {
		for _, verified := range []bool{false, true} {
			b, want := inUse(t), identity.Continuity
			if verified {
				want = identity.Verified
				must(t)(b.Verify(t0, host, "", s1.Public.Fingerprint()))
			}
			handOver(t, b, s1, s2, want)
			if e := events[Named](b); len(e) != 1 || e[0].Next[0] != s2.Public.Fingerprint() {
				t.Fatalf("%+v", e)
			}
			judge(t, b, q2, want)
			carry(t, b, q2)
			judge(t, b, q2, want)
			judge(t, b, q1, want) // beside the new one, for a while
			if e := events[Succeeded](b); len(e) != 1 || !b.Sticky(t0, host, "") {
				t.Fatalf("%+v", e)
			}
		}
	})
}

func TestSuccessorsAccepted(t *testing.T) {
	s1, s2, s3 := signerOf(t, 1), signerOf(t, 2), signerOf(t, 3)
	q1, q2, q3 := later(s1), later(s2), later(s3)
	t.Run("BTNS-TRUST-41 T07 not from a key that the session itself taught us", func(t *testing.T) {
		b := New(Config{}, nil)
		carry(t, b, q1)
		q := q1
		q.Level = identity.FirstUse
		if _, err := b.Succeed(t0, q, binding, list(t, binding, s1, t0, s2)); !errors.Is(err, ErrTooNew) {
			t.Fatal(err)
		}
		refused(t, b, q2)
	})
	t.Run("BTNS-TRUST-41 T08 not without proof, nor with one of another session", func(t *testing.T) {
		b := inUse(t)
		for name, l := range map[string][]Announced{
			"no proof":        {{s2.Public, t0, []byte{1}}},
			"another session": list(t, identity.Binding{9}, s1, t0, s2),
			"another old key": list(t, binding, s3, t0, s2),
			"one of two":      append(list(t, binding, s1, t0, s3), Announced{s2.Public, t0, []byte{1}}),
		} {
			if ch, err := b.Succeed(t0, q1, binding, l); !errors.Is(err, ErrUnproven) || len(ch) != 0 {
				t.Errorf("%s: %v, %v", name, ch, err)
			}
		}
		refused(t, b, q2)
		if _, err := b.Succeed(t0, q1, binding, list(t, binding, s1, t0.Add(2*maxLead), s2)); !errors.Is(err, ErrLead) {
			t.Error(err)
		}
		if _, err := b.Succeed(t0, q3, binding, list(t, binding, s3, t0, s2)); !errors.Is(err, ErrNoRecord) {
			t.Error(err)
		}
	})
	t.Run("BTNS-TRUST-41 at most four keys", func(t *testing.T) {
		var five []Upcoming
		for n := byte(10); n < 15; n++ {
			five = append(five, Upcoming{signerOf(t, n), t0})
		}
		for _, keys := range [][]Upcoming{nil, five} {
			if _, err := Announce(nil, binding, s1.Public, keys); !errors.Is(err, ErrAnnouncement) {
				t.Errorf("%d keys: %v", len(keys), err)
			}
		}
		if _, err := ParseAnnouncement([]byte{1, 5}); !errors.Is(err, ErrAnnouncement) {
			t.Error(err)
		}
		four := list(t, binding, s1, t0, five[0].Signer, five[1].Signer, five[2].Signer, five[3].Signer)
		b := inUse(t)
		if _, err := b.Succeed(t0, q1, binding, append(four, four...)); !errors.Is(err, ErrAnnouncement) {
			t.Error(err)
		}
		must(t)(b.Succeed(t0, q1, binding, four))
		judge(t, b, Query{Addr: host, Key: five[3].Signer.Public}, identity.Continuity)
	})
}

func TestOldKeysEnd(t *testing.T) {
	s1, s2, s3 := signerOf(t, 1), signerOf(t, 2), signerOf(t, 3)
	q1, q2, q3 := later(s1), later(s2), later(s3)
	t.Run("BTNS-TRUST-42 not before its time, and the old key goes on until its end", func(t *testing.T) {
		b := inUse(t)
		from := t0.Add(30 * 24 * time.Hour)
		must(t)(b.Succeed(t0, q1, binding, list(t, binding, s1, from, s2)))
		refused(t, b, q2)
		if v := b.Judge(from.Add(-skew), q2); v.Refuse != nil || v.Assurance != identity.Continuity {
			t.Fatalf("%+v", v)
		}
		must(t)(b.Carried(from, q2))
		near := from.Add(overlap - time.Hour)
		for at := from; at.Before(near); at = at.Add(20 * 24 * time.Hour) { // both are in use
			b.Alive(at, q1)
			b.Alive(at, q2)
		}
		if v := b.Judge(near, q1); v.Refuse != nil || v.Assurance != identity.Continuity {
			t.Fatalf("%+v", v)
		}
		if v := b.Judge(from.Add(overlap), q1); v.Refuse == nil {
			t.Fatal("its time is over")
		}
	})
	t.Run("BTNS-TRUST-43 a list under the new key that leaves out the old one ends it", func(t *testing.T) {
		b := inUse(t)
		must(t)(b.Carried(t0, Query{Addr: home, Key: s1.Public}))
		handOver(t, b, s1, s2, identity.Continuity)
		carry(t, b, q2)
		must(t)(b.Succeed(t0, q2, binding, list(t, binding, s2, t0, s1, s3)))
		judge(t, b, q1, identity.Continuity) // listed
		must(t)(b.Succeed(t0, q2, binding, list(t, binding, s2, t0, s3)))
		if e := events[Retired](b); len(e) != 1 || e[0].Key != s1.Public.Fingerprint() || e[0].Heir != s2.Public.Fingerprint() {
			t.Fatalf("%+v", e)
		}
		refused(t, b, q1)
		refused(t, b, Query{Addr: home, Key: s1.Public})
		judge(t, b, Query{Addr: home, Key: s2.Public}, identity.Continuity) // wherever the old one was
	})
	t.Run("BTNS-TRUST-43 an unused successor is taken back by the next list", func(t *testing.T) {
		b := inUse(t)
		handOver(t, b, s1, s2, identity.Continuity)
		handOver(t, b, s1, s3, identity.Continuity)
		refused(t, b, q2)
		judge(t, b, q3, identity.Continuity)
	})
	t.Run("a rotation is not turned back: who finds the old key names nobody", func(t *testing.T) {
		b := inUse(t)
		handOver(t, b, s1, s2, identity.Continuity)
		carry(t, b, q2)
		if _, err := b.Succeed(t0, q1, binding, list(t, binding, s1, t0, s3)); !errors.Is(err, ErrSucceeded) {
			t.Fatal(err)
		}
		must(t)(b.Succeed(t0, q2, binding, list(t, binding, s2, t0, s1))) // kept, and yet no heir of its heir
		b.Alive(t0.Add(overlap-time.Hour), q2)
		b.Expire(t0.Add(overlap))
		if v := b.Judge(t0.Add(overlap), q1); v.Refuse == nil {
			t.Fatal("the old key is back")
		}
	})
}

func TestRotationHolds(t *testing.T) {
	s1, s2, s3 := signerOf(t, 1), signerOf(t, 2), signerOf(t, 3)
	q1, q2, q3 := later(s1), later(s2), later(s3)
	t.Run("BTNS-TRUST-44 a revoked key names nobody and nobody names it", func(t *testing.T) {
		b := inUse(t)
		handOver(t, b, s1, s2, identity.Continuity)
		carry(t, b, q2)
		must(t)(b.Revoke(t0, s2.Public.Fingerprint()))
		if _, err := b.Succeed(t0, q2, binding, list(t, binding, s2, t0, s3)); !errors.Is(err, ErrRevoked) {
			t.Fatal(err)
		}
		later := t0.Add(2 * overlap)
		b.Alive(later, q1)
		b.Expire(later)
		if rs := b.Key(s1.Public.Fingerprint()); len(rs) == 0 {
			t.Fatal("the old key was ended in favour of a revoked one")
		}
		must(t)(b.Succeed(t0, q1, binding, list(t, binding, s1, t0, s2, s3)))
		judge(t, b, q3, identity.Continuity)
	})
	t.Run("the store follows, and a book made of it goes on", func(t *testing.T) {
		b, s := inUse(t), store{}
		for _, r := range b.List() {
			s[r.ID()] = r
		}
		s.apply(handOver(t, b, s1, s2, identity.Continuity))
		s.apply(carry(t, b, q2))
		var kept []Record
		for _, r := range s {
			kept = append(kept, r)
		}
		again := New(Config{}, kept)
		judge(t, again, q2, identity.Continuity)
		s.apply(again.Alive(t0.Add(overlap-time.Hour), q1))
		s.apply(again.Alive(t0.Add(overlap-time.Hour), q2))
		s.apply(again.Expire(t0.Add(overlap)))
		if len(s) != again.Len() {
			t.Fatalf("%d stored, %d held", len(s), again.Len())
		}
		for _, r := range again.List() {
			if s[r.ID()].Key != s2.Public.Fingerprint() {
				t.Fatalf("%+v", r)
			}
		}
	})
}

func FuzzParseAnnouncement(f *testing.F) {
	s1, s2 := signerOf(f, 1), signerOf(f, 2)
	data, err := Announce(nil, binding, s1.Public, []Upcoming{{s2, t0}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := ParseAnnouncement(b)
		if err != nil {
			return
		}
		if len(l) == 0 || len(l) > maxAnnounced {
			t.Fatalf("%d entries", len(l))
		}
		book := New(Config{}, []Record{oldRecord(s1.Public, identity.Continuity)})
		if _, err := book.Succeed(t0, Query{Addr: host, Key: s1.Public, Level: identity.Continuity}, binding, l); err == nil {
			for _, a := range l {
				if a.Key != s1.Public && !a.Proven(binding, s1.Public) {
					t.Fatal("taken without proof")
				}
			}
		}
	})
}
