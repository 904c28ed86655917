package engine

import (
	"crypto/rand"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/btns-ipsec/btns/dataplane/planetest"
	"github.com/btns-ipsec/btns/host"
	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/ikev2"
	"github.com/btns-ipsec/btns/trust"
)

// memoryKeys writes down what it is told; order has the host's events between.
type memoryKeys struct {
	fail error
	told []string
	next identity.Signer
	from time.Time
}

func (k *memoryKeys) note(what string) error {
	if k.fail == nil {
		k.told = append(k.told, what)
	}
	return k.fail
}

func (k *memoryKeys) PlanKey(next identity.Signer, from time.Time) error {
	k.next, k.from = next, from
	return k.note("plan")
}

func (k *memoryKeys) DropPlan(next identity.PublicKey) error {
	if next != k.next.Public {
		return errors.New("another plan")
	}
	err := k.note("drop")
	if err == nil {
		k.next, k.from = identity.Signer{}, time.Time{}
	}
	return err
}

func (k *memoryKeys) TurnKey(time.Time) error { return k.note("turn") }

func (k *memoryKeys) ReplaceKey(identity.Signer, []byte) error {
	return k.note("replace")
}

func newSigner(t testing.TB) identity.Signer {
	t.Helper()
	k, err := identity.NewEd25519(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// What an operator does with the own key is on disk before the host, and so any peer, hears of it.
func TestOwnKeyOnDiskFirst(t *testing.T) {
	done := host.Report{Kind: host.Operator, Level: host.Info, Text: "done"}
	for name, c := range map[string]struct {
		call func(t *testing.T, r *rig) ([]host.Report, error)
		want []string
	}{
		"rotate": {func(t *testing.T, r *rig) ([]host.Report, error) { return r.Rotate(t.Context(), DefaultLead) }, []string{"plan", "host.Rotate"}},
		"cancel": {func(t *testing.T, r *rig) ([]host.Report, error) { return r.TakeBack(t.Context()) }, []string{"drop", "host.Rotate"}},
		"revoke": {func(t *testing.T, r *rig) ([]host.Report, error) { return r.RevokeOwn(t.Context()) }, []string{"replace", "host.RevokeOwn"}},
	} {
		for _, fails := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				keys := &memoryKeys{}
				var r *rig
				r = startOn(t, func(c *Config) { c.Keys = keys }, func(ev host.Event) []host.Action {
					switch ev := ev.(type) {
					case host.Rotate:
						keys.told = append(keys.told, "host.Rotate")
						if ev.Next.Public != keys.next.Public || !ev.From.Equal(keys.from) {
							t.Error("the host has another plan than the disk")
						}
						return []host.Action{done}
					case host.RevokeOwn:
						keys.told = append(keys.told, "host.RevokeOwn")
						if s, err := trust.ParseRevocation(ev.Statement); err != nil || s.Key() != r.signer().Public {
							t.Errorf("%v, %v", s, err)
						}
						return []host.Action{host.KeyTurned{Key: ev.Next}, done}
					}
					return nil
				})
				if name == "cancel" {
					keys.next = newSigner(t)
					r.brain.own.Next = keys.next.Public
				}
				before := r.PublicKey()
				if fails {
					keys.fail = errBroken
				}
				reports, err := c.call(t, r)
				switch {
				case fails && (!errors.Is(err, errBroken) || len(keys.told) != 0):
					t.Errorf("%s: %v, %v", name, err, keys.told)
				case !fails && (err != nil || !slices.Equal(keys.told, c.want) || len(reports) != 1):
					t.Errorf("%s: %v, %v, %v", name, err, keys.told, reports)
				}
				if changed := r.PublicKey() != before; changed != (name == "revoke" && !fails) {
					t.Errorf("%s: another key: %v", name, changed)
				}
				r.close(t)
			})
		}
	}
}

func TestRotateRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := &memoryKeys{}
		r := startOn(t, func(c *Config) { c.Keys = keys }, func(ev host.Event) []host.Action {
			if _, ok := ev.(host.Rotate); ok {
				return []host.Action{host.Report{Kind: host.Operator, Level: host.Warn, Text: "stopping"}}
			}
			return nil
		})
		if _, err := r.Rotate(t.Context(), DefaultLead); err != nil || !slices.Equal(keys.told, []string{"plan", "drop"}) {
			t.Errorf("%v, %v", err, keys.told)
		}
		for _, lead := range []time.Duration{0, -time.Hour, MinLead - 1, MaxLead + 1} {
			if _, err := r.Rotate(t.Context(), lead); !errors.Is(err, ErrLead) {
				t.Errorf("%v: %v", lead, err)
			}
		}
		r.close(t)
	})
	synctest.Test(t, func(t *testing.T) {
		r := start(t, nil)
		if _, err := r.Rotate(t.Context(), DefaultLead); err == nil {
			t.Error("a key that is not kept was changed")
		}
		r.close(t)
	})
}

// When the host says that its key has turned, the disk follows; when the disk fails, that is told, and the key is in use.
func TestKeyTurned(t *testing.T) {
	for _, fails := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			keys, next := &memoryKeys{}, newSigner(t)
			if fails {
				keys.fail = errBroken
			}
			var log strings.Builder
			r := startOn(t, func(c *Config) { c.Keys, c.Log = keys, slog.New(slog.NewTextHandler(&log, nil)) }, func(ev host.Event) []host.Action {
				if _, ok := ev.(host.Connect); ok {
					return []host.Action{host.KeyTurned{Key: next}}
				}
				return nil
			})
			if _, err := r.Operate(t.Context(), host.Connect{}); err != nil {
				t.Fatal(err)
			}
			if r.PublicKey() != next.Public || slices.Equal(keys.told, []string{"turn"}) == fails || strings.Contains(log.String(), "store failed") != fails {
				t.Errorf("%v, %v, %s", r.PublicKey(), keys.told, log.String())
			}
			r.close(t)
		})
	}
}

// A key that is in use while the store has it as a planned one, since the disk was full when its time came, is put in its place
// before anything else is done, and never dropped.
func TestKeyTurnedLate(t *testing.T) {
	for name, c := range map[string]struct {
		call func(t *testing.T, r *rig) error
		want []string
	}{
		"cancel": {func(t *testing.T, r *rig) error { _, err := r.TakeBack(t.Context()); return err }, []string{"turn"}},
		"rotate": {func(t *testing.T, r *rig) error { _, err := r.Rotate(t.Context(), DefaultLead); return err }, []string{"turn", "plan"}},
		"revoke": {func(t *testing.T, r *rig) error {
			if _, err := r.RevokeOwn(t.Context()); err != nil {
				return err
			}
			_, err := r.TakeBack(t.Context()) // there is nothing left to be kept
			return err
		}, []string{"replace"}},
	} {
		synctest.Test(t, func(t *testing.T) {
			next := newSigner(t)
			keys := &memoryKeys{fail: errBroken, next: next}
			r := startOn(t, func(c *Config) { c.Keys = keys }, func(ev host.Event) []host.Action {
				done := host.Report{Kind: host.Operator, Level: host.Info}
				switch ev := ev.(type) {
				case host.Connect:
					return []host.Action{host.KeyTurned{Key: next}}
				case host.RevokeOwn:
					return []host.Action{host.KeyTurned{Key: ev.Next}, done}
				case host.Rotate:
					return []host.Action{done}
				}
				return nil
			})
			if _, err := r.Operate(t.Context(), host.Connect{}); err != nil {
				t.Fatal(err)
			}
			if err := c.call(t, r); !errors.Is(err, errBroken) || len(keys.told) != 0 {
				t.Errorf("%s on a full disk: %v, %v", name, err, keys.told)
			}
			keys.fail = nil
			if err := c.call(t, r); err != nil || !slices.Equal(keys.told, c.want) {
				t.Errorf("%s: %v, %v", name, err, keys.told)
			}
			r.close(t)
		})
	}
}

// A plan that the host does not have is not taken from the disk.
func TestTakeBackNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := &memoryKeys{next: newSigner(t)}
		r := startOn(t, func(c *Config) { c.Keys = keys }, func(ev host.Event) []host.Action {
			if _, ok := ev.(host.Rotate); ok {
				return []host.Action{host.Report{Kind: host.Operator, Level: host.Warn, Text: "no change is planned"}}
			}
			return nil
		})
		if reports, err := r.TakeBack(t.Context()); err != nil || !refused(reports) || len(keys.told) != 0 {
			t.Errorf("%v, %v, %v", reports, err, keys.told)
		}
		r.close(t)
	})
}

// A planned key whose time came while nothing ran takes over at the start.
func TestStartWithPlannedKey(t *testing.T) {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	dir := t.TempDir()
	first, next := identity.Signer{}, newSigner(t)
	for i, at := range []time.Time{now, now.Add(time.Hour), now.Add(3 * time.Hour), now.Add(4 * time.Hour)} {
		store, err := openStore(filepath.Join(dir, "state"))
		if err != nil {
			t.Fatal(err)
		}
		key, r, fresh, err := loadKey(store, at)
		if err != nil || fresh != (i == 0) {
			t.Fatalf("start %d: fresh %v, %v", i, fresh, err)
		}
		switch i {
		case 0:
			first = key
			if err := (ownKeys{store}).PlanKey(next, now.Add(2*time.Hour)); err != nil {
				t.Fatal(err)
			}
		case 1:
			if key.Public != first.Public || r.Next.Public != next.Public || !r.From.Equal(now.Add(2*time.Hour)) {
				t.Fatalf("%v, %+v", key.Public, r)
			}
		default:
			if key.Public != next.Public || r.Next.Private != nil || r.Former != first.Public || !r.Turned.Equal(now.Add(3*time.Hour)) {
				t.Fatalf("%v, %+v", key.Public, r)
			}
		}
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// Two machines, one of which changes its key as planned.
func TestRotateBetweenMachines(t *testing.T) {
	t.Run("BTNS-TRUST-40 a change between two engines", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			n := planetest.NewNetwork()
			a, b := newMachine(t, n, local), newMachine(t, n, remote)
			ctx := t.Context()
			chat := func() {
				a.plane.FromApp(udp(local, remote))
				<-b.got
				b.plane.FromApp(udp(remote, local))
				<-a.got
				time.Sleep(5 * time.Second)
			}
			if v, err := a.Wait(ctx, remote, ""); err != nil || v.State != host.StateProtected {
				t.Fatalf("%+v, %v", v, err)
			}
			chat()
			old := b.PublicKey()
			if reports, err := b.Rotate(ctx, MinLead); err != nil || refused(reports) {
				t.Fatalf("%v, %v", reports, err)
			}
			own, err := b.Own(ctx)
			if err != nil || own.Key != old || own.Next.IsZero() {
				t.Fatalf("%+v, %v", own, err)
			}
			for range int(MinLead/(5*time.Second)) + 20 {
				chat()
			}
			ps, err := a.Peers(ctx)
			if err != nil || len(ps) != 1 || ps[0].Key != own.Next.Fingerprint() || ps[0].Assurance != identity.Continuity || len(ps[0].Children) != 1 {
				t.Fatalf("%+v, %v", ps, err)
			}
			if b.PublicKey() != own.Next || !slices.Equal(b.keys.told, []string{"plan", "turn"}) {
				t.Fatalf("%v, %v", b.PublicKey(), b.keys.told)
			}
			for _, m := range []*machine{a, b} {
				if err := m.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	})
}

// A configuration that is put in force after a change is given the new key.
func TestReloadLendsPresentKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		next := newSigner(t)
		var lent identity.PublicKey
		r := start(t, func(ev host.Event) []host.Action {
			switch ev := ev.(type) {
			case host.Connect:
				return []host.Action{host.KeyTurned{Key: next}}
			case host.Reload:
				lent = ev.Peers[0].Self.Key.Public
				return []host.Action{host.Reloaded{}}
			}
			return nil
		})
		if _, err := r.Operate(t.Context(), host.Connect{}); err != nil {
			t.Fatal(err)
		}
		c := host.Config{Peers: []host.Peer{{Name: "x", Self: ikev2.Local{Method: ikev2.Signature}}}}
		if _, err := r.Reload(t.Context(), c, nil); err != nil || lent != next.Public {
			t.Errorf("%v, %v", lent, err)
		}
		r.close(t)
	})
}
