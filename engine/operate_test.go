package engine

import (
	"errors"
	"testing"
	"testing/synctest"

	"github.com/btns-ipsec/btns/host"
	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/trust"
)

// What an operator says is answered with what the host says to it, and not before it is on disk.
func TestOperate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := identity.Fingerprint{9}
		r := start(t, func(ev host.Event) []host.Action {
			if v, ok := ev.(host.Verify); ok {
				return []host.Action{
					host.Save{Record: trust.Record{Addr: v.Addr, Key: v.Key}},
					host.Report{Kind: host.Operator, Text: "first"},
					host.Report{Kind: host.KeyRaised},
					host.Report{Kind: host.Operator, Text: "last"},
				}
			}
			return nil
		})
		got, err := r.Operate(t.Context(), host.Verify{Addr: remote, Key: key})
		if err != nil || len(got) != 2 || got[0].Text != "first" || got[1].Text != "last" {
			t.Fatalf("%+v, %v", got, err)
		}
		if n := len(r.store.written()); n != 1 {
			t.Fatalf("%d changes on disk", n)
		}
		r.store.setFail(errBroken)
		if _, err := r.Operate(t.Context(), host.Verify{Addr: remote, Key: key}); !errors.Is(err, errBroken) {
			t.Fatalf("with a broken disk: %v", err)
		}
		r.store.setFail(nil)
		r.close(t)
		if _, err := r.Operate(t.Context(), host.Revoke{Key: key}); !errors.Is(err, ErrStopped) {
			t.Fatalf("after the end: %v", err)
		}
	})
}
