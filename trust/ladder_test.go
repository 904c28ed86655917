package trust

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/btns-ipsec/btns/identity"
)

// events takes the events of one type out of a book.
func events[E Event](b *Book) (out []E) {
	for _, e := range b.Events() {
		if e, ok := e.(E); ok {
			out = append(out, e)
		}
	}
	return out
}

func must(t testing.TB) func([]Change, error) []Change {
	return func(ch []Change, err error) []Change {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return ch
	}
}

func TestLevelAndEvidence(t *testing.T) {
	k1, k2 := key(t, 1), key(t, 2)
	t.Run("BTNS-TRUST-01 the level is the highest that the evidence reaches, and the evidence is shown", func(t *testing.T) {
		rapid.Check(t, func(r *rapid.T) {
			b := New(Config{}, nil)
			q := Query{Addr: host, Key: k1, Inbound: rapid.Bool().Draw(r, "inbound"), NAT: rapid.Bool().Draw(r, "nat")}
			for range rapid.IntRange(0, 6).Draw(r, "steps") {
				switch rapid.IntRange(0, 3).Draw(r, "step") {
				case 0:
					_, _ = b.Carried(t0, q)
				case 1:
					_, _ = b.Verify(t0, host, "", k1.Fingerprint())
				case 2:
					_, _ = b.VerifyKey(t0, k1.Fingerprint(), k1)
				case 3:
					_, _ = b.Accept(t0, host, "", k1.Fingerprint())
				}
				v := b.Judge(t0, q)
				if v.Refuse != nil || v.Assurance != Level(v.Evidence) || v.Assurance < identity.FirstUse {
					r.Fatalf("%v from %v", v.Assurance, v.Evidence)
				}
			}
		})
		b := New(Config{}, nil)
		carry(t, b, Query{Addr: host, Key: k1})
		if v := b.Judge(t0.Add(time.Hour), Query{Addr: host, Key: k1}); len(v.Evidence) != 2 || v.Evidence[0] != (Evidence{Seen, t0}) || v.Evidence[1].Kind != Again {
			t.Fatalf("%v", v.Evidence)
		}
	})
	t.Run("BTNS-TRUST-02 contradicting evidence beats any level", func(t *testing.T) {
		b := New(Config{}, nil)
		carry(t, b, Query{Addr: host, Key: k1})
		must(t)(b.VerifyKey(t0, k2.Fingerprint(), k2))
		refused(t, b, Query{Addr: host, Key: k2}) // verified, and yet another key is pinned here
		must(t)(b.Verify(t0, host, "", k1.Fingerprint()))
		judge(t, b, Query{Addr: host, Key: k1}, identity.Verified)
		must(t)(b.Revoke(t0, k1.Fingerprint()))
		var e *RevokedKeyError
		if v := b.Judge(t0, Query{Addr: host, Key: k1}); !errors.As(v.Refuse, &e) {
			t.Fatalf("%+v", v)
		}
	})
	t.Run("BTNS-TRUST-03 levels 10 to 30 are never called authenticated", func(t *testing.T) {
		for l, want := range map[identity.Assurance]string{
			identity.Encrypted: "encrypted", identity.FirstUse: "first-use", identity.Continuity: "continuity",
		} {
			if l.String() != want {
				t.Errorf("%d is called %q", l, l)
			}
		}
	})
}

func TestLevelRisesAndFalls(t *testing.T) {
	k1 := key(t, 1)
	t.Run("BTNS-TRUST-04 a level rises and falls with an event, and then assessment says what is left", func(t *testing.T) {
		b := New(Config{}, nil)
		q := Query{Addr: host, Key: k1}
		carry(t, b, q)
		b.Events()
		must(t)(b.Verify(t0, host, "", k1.Fingerprint()))
		if e := events[Raised](b); len(e) != 1 || e[0].To != identity.Verified || e[0].Key != k1.Fingerprint() {
			t.Fatalf("%+v", e)
		}
		b.Forget(host)
		if e := events[Lowered](b); len(e) != 2 || e[0].Place.Addr != host || e[0].From != identity.Verified || e[0].Why != Forgotten || !e[1].Place.IsZero() {
			t.Fatalf("%+v", e)
		}
		if v := b.Assess(t0, q); v.Refuse != nil || v.Assurance != identity.FirstUse || len(b.Refused(host, "")) != 0 {
			t.Fatalf("%+v", v)
		}
		carry(t, b, q)
		b.Events()
		b.Expire(t0.Add(31 * 24 * time.Hour))
		if e := events[Lowered](b); len(e) != 1 || e[0].Why != Aged || e[0].From != identity.Continuity {
			t.Fatalf("%+v", e)
		}
		carry(t, b, q)
		b.Events()
		must(t)(b.Revoke(t0, k1.Fingerprint()))
		if e := events[Lowered](b); len(e) != 1 || e[0].Why != Withdraw || !e[0].Place.IsZero() {
			t.Fatalf("%+v", e)
		}
	})
	t.Run("BTNS-TRUST-04 events that nobody takes are lost within bounds, and that is said", func(t *testing.T) {
		b := New(Config{}, nil)
		for range maxEvents {
			carry(t, b, Query{Addr: host, Key: k1})
			b.Forget(host)
		}
		all := b.Events()
		if lost, ok := all[len(all)-1].(Lost); !ok || len(all) != maxEvents+1 || lost.Count == 0 {
			t.Fatalf("%d events, last %+v", len(all), all[len(all)-1])
		}
		if len(b.Events()) != 0 {
			t.Fatal("taken twice")
		}
	})
}

func TestWhatLevelsRestOn(t *testing.T) {
	k1, k2 := key(t, 1), key(t, 2)
	t.Run("BTNS-TRUST-06 what was compared is recorded on the key, what a rule says is not recorded", func(t *testing.T) {
		b := New(Config{}, nil)
		carry(t, b, Query{Addr: host, Key: k1})
		must(t)(b.Verify(t0, host, "", identity.Fingerprint{}))
		judge(t, b, Query{Addr: home, Key: k1}, identity.Verified)
		judge(t, b, Query{Addr: home, Key: k2, Named: true}, identity.Verified)
		carry(t, b, Query{Addr: home, Key: k2, Named: true})
		judge(t, b, Query{Addr: home, Key: k2}, identity.Continuity) // the rule is gone
		must(t)(b.Confirm(t0, Query{Addr: home, Key: k2}))
		if v := b.Judge(t0, Query{Addr: home, Key: k2}); v.Assurance != identity.Verified || !(&Record{Evidence: v.Evidence}).has(ShortString) {
			t.Fatalf("%+v", v)
		}
	})
	t.Run("BTNS-TRUST-07 nothing that a peer can bring about raises a key that was never seen", func(t *testing.T) {
		b := New(Config{}, nil)
		carry(t, b, Query{Addr: host, Key: k1})
		for bits := range 16 {
			q := Query{
				Addr: netip.MustParseAddr("198.51.100.9"), Key: k2, Inbound: bits&1 != 0, NAT: bits&2 != 0, OldGone: bits&4 != 0,
				Level: identity.Assurance(bits * 7),
			}
			if bits&8 != 0 {
				q.Instance = Instance{1}
			}
			judge(t, b, q, identity.FirstUse)
		}
	})
	t.Run("what is verified by an operator's word on a slip is not recorded", func(t *testing.T) {
		b := New(Config{}, nil)
		if _, err := b.Verify(t0, host, "", k1.Fingerprint()); !errors.Is(err, ErrNoRecord) {
			t.Fatal(err)
		}
		carry(t, b, Query{Addr: host, Key: k1})
		must(t)(b.AcceptBeside(t0, host, "", k2.Fingerprint()))
		if _, err := b.Verify(t0, host, "", identity.Fingerprint{}); !errors.Is(err, ErrSeveral) {
			t.Fatal(err)
		}
		if _, err := b.VerifyName(t0, "not a name", k1.Fingerprint()); err == nil {
			t.Fatal("no such name")
		}
		if _, err := b.VerifyKey(t0, identity.Fingerprint{}, k1); !errors.Is(err, ErrNoRecord) {
			t.Fatal(err)
		}
	})
}
