package engine

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/btns-ipsec/btns/host"
	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/trust"
)

// enter changes the state of the peer as an event of the host would.
func (r *rig) enter(t *testing.T, s host.PeerState) {
	t.Helper()
	if err := r.ask(t.Context(), func(now time.Time) {
		r.brain.state, r.brain.since = s, now
		r.carryOut([]host.Action{host.Report{Kind: "test"}})
	}); err != nil {
		t.Fatal(err)
	}
}

func TestWait(t *testing.T) {
	tests := map[string]struct {
		before, after host.PeerState
		want          host.PeerState
		took          time.Duration
		connects      int
	}{
		"there already":             {host.StateProtected, host.StateProtected, host.StateProtected, 0, 0},
		"becomes protected":         {host.StateProbing, host.StateProtected, host.StateProtected, 2500 * time.Millisecond, 2},
		"is refused":                {host.StateNegotiating, host.StateRefused, host.StateRefused, 2500 * time.Millisecond, 2},
		"never":                     {host.StateClear, host.StateClear, host.StateClear, 9500 * time.Millisecond, 4},
		"an old refusal may change": {host.StateRefused, host.StateProtected, host.StateProtected, 2500 * time.Millisecond, 2},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := start(t, nil)
				r.enter(t, tt.before)
				time.Sleep(time.Second) // of the bubble
				ctx, cancel := context.WithTimeout(t.Context(), 9500*time.Millisecond)
				defer cancel()
				began := time.Now()
				time.AfterFunc(2500*time.Millisecond, func() {
					if tt.after != tt.before {
						r.enter(t, tt.after)
					}
				})
				x, err := r.Wait(ctx, remote, "")
				if err != nil || x.State != tt.want || time.Since(began) != tt.took {
					t.Errorf("%v, %v after %v; want %v after %v", x, err, time.Since(began), tt.want, tt.took)
				}
				time.Sleep(time.Minute) // nothing asks any more
				n := 0
				for _, ev := range r.brain.seen() {
					if ev == (host.Connect{Remote: remote}) {
						n++
					}
				}
				if n != tt.connects {
					t.Errorf("asked %d times, want %d", n, tt.connects)
				}
				r.close(t)
				if len(r.loop.waiters) != 0 {
					t.Error("a waiter is left")
				}
			})
		})
	}
}

func TestWaitEndsWithTheEngine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, nil)
		ended := make(chan error, 1)
		go func() {
			_, err := r.Wait(t.Context(), remote, "")
			ended <- err
		}()
		synctest.Wait()
		r.close(t)
		if err := <-ended; !errors.Is(err, ErrStopped) {
			t.Fatal(err)
		}
	})
}

// Commands return what they changed, and not before it is on disk.
func TestCommands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := identity.Fingerprint{9}
		pin := trust.Record{Addr: remote, Key: key}
		var r *rig
		r = start(t, func(ev host.Event) []host.Action {
			switch ev := ev.(type) {
			case host.Forget:
				if ev.Addr == remote && len(r.brain.records) > 0 {
					r.brain.records = nil
					return []host.Action{host.Erase{Record: pin}}
				}
			case host.Accept:
				if ev.Addr == remote {
					return []host.Action{host.Save{Record: pin}, host.Report{Kind: host.Operator}}
				}
			}
			return nil
		})
		r.brain.records = []trust.Record{pin}
		ctx := t.Context()
		if n, err := r.Down(ctx, remote); n != 2 || err != nil {
			t.Fatalf("down: %d, %v", n, err)
		}
		if n, err := r.Down(ctx, local); n != 0 || err != nil {
			t.Fatalf("down of nobody: %d, %v", n, err)
		}
		if got, err := r.Accept(ctx, remote, identity.Fingerprint{}); got != key || err != nil {
			t.Fatalf("accept: %v, %v", got, err)
		}
		if got, err := r.Accept(ctx, local, identity.Fingerprint{}); !got.IsZero() || err != nil {
			t.Fatalf("accept of nothing: %v, %v", got, err)
		}
		if rs, err := r.Records(ctx); len(rs) != 1 || err != nil {
			t.Fatalf("records: %v, %v", rs, err)
		}
		if n, err := r.Forget(ctx, remote, identity.Fingerprint{}); n != 1 || err != nil {
			t.Fatalf("forget: %d, %v", n, err)
		}
		if n, err := r.Forget(ctx, netip.Addr{}, key); n != 0 || err != nil {
			t.Fatalf("forget of nothing: %d, %v", n, err)
		}
		if got := r.store.written(); len(got) != 2 {
			t.Fatalf("on disk: %v", got)
		}
		r.store.setFail(errBroken)
		if _, err := r.Accept(ctx, remote, key); !errors.Is(err, errBroken) {
			t.Fatalf("accept with a broken disk: %v", err)
		}
		r.store.setFail(nil)
		if ps, err := r.Peers(ctx); len(ps) != 1 || err != nil {
			t.Fatalf("peers: %v, %v", ps, err)
		}
		gone, cancel := context.WithCancel(ctx)
		cancel()
		if _, err := r.Explain(gone, remote, 0); !errors.Is(err, context.Canceled) {
			t.Fatalf("a caller that has gone: %v", err)
		}
		r.close(t)
	})
}
