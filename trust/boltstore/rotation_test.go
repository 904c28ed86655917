package boltstore

import (
	"crypto/rand"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/btns-ipsec/btns/identity"
)

const own = "ed25519"

func newKey(t testing.TB) identity.Signer {
	t.Helper()
	k, err := identity.NewEd25519(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// holds fails unless the store has these keys: the present one, and the one to come.
func holds(t *testing.T, s *Store, present, next identity.Signer) Rotation {
	t.Helper()
	k, ok, err := s.Key(own)
	if err != nil || !ok || k.Public != present.Public {
		t.Fatalf("present: %v, %v, %v", k.Public, ok, err)
	}
	r, err := s.Rotation(own)
	if err != nil || r.Next.Public != next.Public || r.From.IsZero() != next.Public.IsZero() {
		t.Fatalf("%+v, %v", r, err)
	}
	return r
}

func TestRotation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s := reopen(t, path)
	k1, k2, k3 := newKey(t), newKey(t), newKey(t)
	from := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	if err := s.PlanKey(own, k2, from); !errors.Is(err, errNoKey) {
		t.Fatal(err)
	}
	if err := s.AddKey(own, k1); err != nil {
		t.Fatal(err)
	}
	step := func(err error, present, next identity.Signer) Rotation {
		t.Helper()
		if err := errors.Join(err, s.Close()); err != nil {
			t.Fatal(err)
		}
		s = reopen(t, path)
		return holds(t, s, present, next)
	}
	step(nil, k1, identity.Signer{})
	if r := step(s.PlanKey(own, k2, from), k1, k2); !r.From.Equal(from) || !r.Former.IsZero() {
		t.Fatalf("%+v", r)
	}
	if err := s.PlanKey(own, k3, from); !errors.Is(err, errPlanned) {
		t.Fatal(err)
	}
	if err := s.DropPlan(own, k3.Public); !errors.Is(err, errOtherPlan) {
		t.Fatal(err)
	}
	step(nil, k1, k2)
	step(s.DropPlan(own, k2.Public), k1, identity.Signer{})
	if err := s.TurnKey(own, from); !errors.Is(err, errNotPlanned) {
		t.Fatal(err)
	}
	step(s.PlanKey(own, k2, from), k1, k2)
	if r := step(s.TurnKey(own, from), k2, identity.Signer{}); r.Former != k1.Public || !r.Turned.Equal(from) {
		t.Fatalf("%+v", r)
	}
	if r := step(s.PlanKey(own, k3, from), k2, k3); r.Former != k1.Public { // peers are still told of the one before
		t.Fatalf("%+v", r)
	}
	k4 := newKey(t)
	if r := step(s.ReplaceKey(own, k4, []byte("statement")), k4, identity.Signer{}); string(r.Revocation) != "statement" || !r.Former.IsZero() {
		t.Fatalf("%+v", r)
	}
	k5 := newKey(t)
	step(s.PlanKey(own, k5, from), k4, k5)
	if r := step(s.TurnKey(own, from), k5, identity.Signer{}); string(r.Revocation) != "statement" || r.Former != k4.Public {
		t.Fatalf("%+v", r)
	}
}

// A plan that cannot be read stops the program: to go on without it would be to lose a key that peers expect.
func TestDamagedRotation(t *testing.T) {
	for name, damage := range map[string]func(tx *bolt.Tx) error{
		"another version": func(tx *bolt.Tx) error {
			return tx.Bucket(bucketMeta).Put(rotationName(own), []byte(`{"version":2,"from":"2030-01-02T03:04:05Z"}`))
		},
		"an unknown field": func(tx *bolt.Tx) error {
			return tx.Bucket(bucketMeta).Put(rotationName(own), []byte(`{"version":1,"from":"2030-01-02T03:04:05Z","x":1}`))
		},
		"no time":        func(tx *bolt.Tx) error { return tx.Bucket(bucketMeta).Put(rotationName(own), []byte(`{"version":1}`)) },
		"no plan":        func(tx *bolt.Tx) error { return tx.Bucket(bucketMeta).Delete(rotationName(own)) },
		"no key":         func(tx *bolt.Tx) error { return tx.Bucket(bucketKeys).Delete(nextName(own)) },
		"no private key": func(tx *bolt.Tx) error { return tx.Bucket(bucketKeys).Put(nextName(own), []byte("x")) },
		"a former key that is none": func(tx *bolt.Tx) error {
			return tx.Bucket(bucketMeta).Put(rotationName(own), []byte(`{"version":1,"from":"2030-01-02T03:04:05Z","former_spki":"AAAA"}`))
		},
	} {
		s := reopen(t, filepath.Join(t.TempDir(), "state.db"))
		if err := errors.Join(s.AddKey(own, newKey(t)), s.PlanKey(own, newKey(t), time.Now()), s.db.Update(damage)); err != nil {
			t.Fatal(err)
		}
		var corrupt *CorruptError
		if _, err := s.Rotation(own); !errors.As(err, &corrupt) {
			t.Errorf("%s: %v", name, err)
		}
		if err := s.TurnKey(own, time.Now()); err == nil {
			t.Errorf("%s: and yet it takes over", name)
		}
	}
}

// turning is the child process of the next test: it plans and turns until it is killed, and says what was acknowledged.
func turning(s *Store) int {
	for {
		next, err := identity.NewEd25519(rand.Reader)
		if err == nil {
			err = s.PlanKey(own, next, time.Now())
		}
		if err != nil {
			fmt.Println(err)
			return 1
		}
		fmt.Println("planned", next.Public)
		if err := s.TurnKey(own, time.Now()); err != nil {
			fmt.Println(err)
			return 1
		}
		fmt.Println("turned", next.Public)
	}
}

// A process that is killed at any moment of a change leaves a key that can be used: the one that was turned to last, or the one
// that was planned after it, and never a plan without its key.
func TestKilledWhileTurning(t *testing.T) {
	t.Run("BTNS-CORE-38 a kill at any moment of a change leaves a usable key", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "state.db")
		s := reopen(t, path)
		first := newKey(t)
		if err := errors.Join(s.AddKey(own, first), s.Close()); err != nil {
			t.Fatal(err)
		}
		present, planned := first.Public.String(), ""
		rng := mrand.New(mrand.NewPCG(7, 8))
		rounds := 40
		if testing.Short() {
			rounds = 10
		}
		for range rounds {
			cmd, lines := start(t, path, "turn")
			killAt, n := 1+rng.IntN(12), 0
			for lines.Scan() {
				what, name, ok := strings.Cut(lines.Text(), " ")
				switch {
				case ok && what == "planned":
					planned = name
				case ok && what == "turned":
					present, planned = name, ""
				default:
					t.Fatal(lines.Text())
				}
				if n++; n == killAt {
					if err := cmd.Process.Kill(); err != nil {
						t.Fatal(err)
					}
				}
			}
			_ = cmd.Wait()
			present, planned = checkTurned(t, path, present, planned)
		}
	})
}

// checkTurned opens the store after a kill, and returns what is in it; what the child did last may not have been said.
func checkTurned(t *testing.T, path, present, planned string) (string, string) {
	t.Helper()
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	k, ok, err := s.Key(own)
	r, rerr := s.Rotation(own)
	if err != nil || rerr != nil || !ok {
		t.Fatalf("%v, %v, %v", ok, err, rerr)
	}
	now, next := k.Public.String(), r.Next.Public.String()
	waits := r.Next.Private != nil
	switch {
	case now == present && waits && (planned == "" || planned == next): // planned, said or not
	case now == present && !waits && planned == "": // nothing is under way
	case now == planned && !waits && r.Former.String() == present: // turned, and not said
	default:
		t.Fatalf("said: %s, then %q; there is %s, then %s (%v)", present, planned, now, next, waits)
	}
	if waits { // the next run begins without a plan
		if err := s.DropPlan(own, r.Next.Public); err != nil {
			t.Fatal(err)
		}
	}
	return now, ""
}
