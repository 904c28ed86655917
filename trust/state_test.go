package trust

import (
	"errors"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/identity"
)

func inState(t testing.TB, b *Book, want State) {
	t.Helper()
	if s := b.State(t0, host, ""); s != want {
		t.Fatalf("%s, want %s", s, want)
	}
}

// bookAfter is a book after some sessions of the first key.
func bookAfter(t testing.TB, sessions int) *Book {
	t.Helper()
	b := New(Config{}, nil)
	for range sessions {
		carry(t, b, Query{Addr: host, Key: key(t, 1)})
	}
	b.Events()
	return b
}

func inConflict(t testing.TB) *Book {
	t.Helper()
	b := bookAfter(t, 2)
	b.Judge(t0.Add(time.Second), Query{Addr: host, Key: key(t, 2)})
	inState(t, b, StateConflict)
	return b
}

// trust.md §4, transition by transition.
func TestStatesOfOneKey(t *testing.T) {
	k1 := key(t, 1)
	q := Query{Addr: host, Key: k1}
	t.Run("BTNS-TRUST-10 T1 unknown, accept-new", func(t *testing.T) {
		b := bookAfter(t, 0)
		inState(t, b, StateUnknown)
		if ch := carry(t, b, q); len(ch) != 1 || ch[0].(Put).Record.Sessions != 1 {
			t.Fatalf("%+v", ch)
		}
		inState(t, b, StateNew)
	})
	t.Run("BTNS-TRUST-10 T2 unknown, ask", func(t *testing.T) {
		b := New(Config{Mode: Ask}, nil)
		if v := b.Judge(t0, q); v.Refuse == nil {
			t.Fatal("not asked")
		}
		inState(t, b, StateUnknown)
		must(t)(b.Accept(t0, host, "", identity.Fingerprint{}))
		inState(t, b, StateNew)
	})
	t.Run("BTNS-TRUST-10 T3 unknown, strict", func(t *testing.T) {
		b := New(Config{Mode: Strict}, nil)
		if v := b.Judge(t0, q); v.Refuse == nil {
			t.Fatal("let in")
		}
		inState(t, b, StateUnknown)
	})
	t.Run("T4 new, another session", func(t *testing.T) { inState(t, bookAfter(t, 1), StateNew); inState(t, bookAfter(t, 2), StatePinned) })
	t.Run("T5 compared", func(t *testing.T) {
		for sessions := 1; sessions < 3; sessions++ {
			b := bookAfter(t, sessions)
			must(t)(b.Verify(t0, host, "", k1.Fingerprint()))
			inState(t, b, StateVerified)
		}
	})
	t.Run("BTNS-TRUST-44 T7 any, revoked", func(t *testing.T) {
		b := bookAfter(t, 2)
		must(t)(b.Revoke(t0, k1.Fingerprint()))
		inState(t, b, StateRevoked)
	})
}

func TestStatesOfTwoKeys(t *testing.T) {
	k1, k2 := key(t, 1), key(t, 2)
	q, other := Query{Addr: host, Key: k1}, Query{Addr: host, Key: k2}
	t.Run("BTNS-TRUST-41 T8 T9 a successor is named and comes", func(t *testing.T) {
		b := New(Config{}, nil)
		s1, s2 := signerOf(t, 1), signerOf(t, 2)
		carry(t, b, q)
		handOver(t, b, s1, s2, identity.Continuity)
		inState(t, b, StateRotating)
		carry(t, b, other)
		if v := b.Judge(t0, other); v.Refuse != nil || v.Assurance != identity.Continuity {
			t.Fatalf("%+v", v)
		}
		b.Alive(t0.Add(overlap-time.Hour), other)
		b.Expire(t0.Add(overlap))
		if rs := b.Lookup(t0, host, ""); len(rs) != 1 || rs[0].Key != k2.Fingerprint() {
			t.Fatalf("%+v", rs)
		}
		inState(t, b, StatePinned)
	})
	t.Run("T10 T11 the operator accepts the other key", func(t *testing.T) {
		b := inConflict(t)
		must(t)(b.Accept(t0.Add(2*time.Second), host, "", identity.Fingerprint{}))
		inState(t, b, StateNew)
		if rs := b.Lookup(t0, host, ""); len(rs) != 1 || rs[0].Key != k2.Fingerprint() {
			t.Fatalf("%+v", rs)
		}
		if e := events[Replaced](b); len(e) != 1 || e[0].Why != ByOperator || e[0].Old != k1.Fingerprint() || e[0].New != k2.Fingerprint() {
			t.Fatalf("%+v", e)
		}
	})
	t.Run("T12 the old key is back", func(t *testing.T) {
		b := inConflict(t)
		if _, err := b.Carried(t0.Add(2*time.Second), q); err != nil {
			t.Fatal(err)
		}
		inState(t, b, StatePinned)
		if e := events[ConflictOver](b); len(e) != 1 || e[0].Key != k1.Fingerprint() {
			t.Fatalf("%+v", e)
		}
	})
	t.Run("BTNS-TRUST-30 T13 without a key there is no way in and no clear traffic", func(t *testing.T) {
		b := bookAfter(t, 2)
		var e *DowngradeError
		if v := b.Judge(t0, Query{Addr: host}); !errors.As(v.Refuse, &e) || !b.Sticky(t0, host, "") {
			t.Fatalf("%+v", v)
		}
	})
	t.Run("T14 forgotten", func(t *testing.T) {
		b := inConflict(t)
		b.Forget(host)
		inState(t, b, StateUnknown)
		if e := events[Unstuck](b); len(e) != 1 || e[0].Why != Forgotten {
			t.Fatalf("%+v", e)
		}
	})
}
