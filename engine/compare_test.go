package engine

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/btns-ipsec/btns/dataplane/planetest"
	"github.com/btns-ipsec/btns/host"
	"github.com/btns-ipsec/btns/identity"
)

// Two people, each at a machine.
func TestCompareBetweenMachines(t *testing.T) {
	t.Run("BTNS-TRUST-53 the strings of two engines", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			n := planetest.NewNetwork()
			a, b := newMachine(t, n, local), newMachine(t, n, remote)
			ctx := t.Context()
			if v, err := a.Wait(ctx, remote, ""); err != nil || v.State != host.StateProtected {
				t.Fatalf("%+v, %v", v, err)
			}
			time.Sleep(time.Second)
			theirs := make(chan host.CompareView, 1)
			go func() {
				time.Sleep(10 * time.Second)
				v, _, err := b.Compare(ctx, local)
				if err != nil {
					t.Error(err)
				}
				theirs <- v
			}()
			v, _, err := a.Compare(ctx, remote)
			if w := <-theirs; err != nil || v.State != host.CompareReady || v.String != w.String || v.String.Words == "" {
				t.Fatalf("%+v, %+v, %v", v, w, err)
			}
			if reports, err := a.Operate(ctx, host.Compared{Addr: remote, Words: v.String.Words, Same: true}); err != nil || refused(reports) {
				t.Fatalf("%v, %v", reports, err)
			}
			if ps, err := a.Peers(ctx); err != nil || ps[0].Assurance != identity.Verified {
				t.Fatalf("%+v, %v", ps, err)
			}
			for _, m := range []*machine{a, b} {
				if err := m.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	})
}

func TestCompareEnds(t *testing.T) {
	begun := host.Report{Kind: host.Operator, Level: host.Info, Text: "begun"}
	synctest.Test(t, func(t *testing.T) {
		r := start(t, func(ev host.Event) []host.Action {
			if _, ok := ev.(host.Compare); ok {
				return []host.Action{begun}
			}
			return nil
		})
		r.brain.compare = host.CompareView{State: host.CompareWaiting}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, _, err := r.Compare(ctx, remote); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		synctest.Wait()
		if n := len(r.loop.comparers); n != 0 {
			t.Errorf("%d still wait", n)
		}
		r.close(t)
	})
	synctest.Test(t, func(t *testing.T) {
		r := start(t, func(ev host.Event) []host.Action {
			if _, ok := ev.(host.Compare); ok {
				return []host.Action{host.Report{Kind: host.Operator, Level: host.Warn, Text: "no"}}
			}
			return nil
		})
		if v, reports, err := r.Compare(t.Context(), remote); err != nil || v.State != host.CompareNone || !refused(reports) {
			t.Errorf("%+v, %v, %v", v, reports, err)
		}
		r.close(t)
	})
}
