package engine

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/btns-ipsec/btns/host"
	"github.com/btns-ipsec/btns/ikev2"
	"github.com/btns-ipsec/btns/probe"
	"github.com/btns-ipsec/btns/selector"
	"github.com/btns-ipsec/btns/trust"
)

// A reload reaches the host as one event, with keys for peers that have none of their own, and brings its answer back.
func TestReload(t *testing.T) {
	refused := errors.New("host: no")
	for name, want := range map[string]host.Reloaded{
		"in force": {Changes: []string{"peer \"x\" added"}},
		"refused":  {Err: refused},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := start(t, func(ev host.Event) []host.Action {
					if _, ok := ev.(host.Reload); ok {
						return []host.Action{host.Report{Kind: host.Operator}, want}
					}
					return nil
				})
				defer r.close(t)
				c := host.Config{Trust: trust.Config{Mode: trust.Strict}, Probe: probe.Config{Scope: probe.Scope{Mode: probe.Local}}}
				c.Peers = []host.Peer{{Name: "x", Self: ikev2.Local{Method: ikev2.Signature}}}
				changes, err := r.Reload(t.Context(), c, []string{"x"})
				if !errors.Is(err, want.Err) || !slices.Equal(changes, want.Changes) {
					t.Errorf("%q, %v", changes, err)
				}
				ev, ok := r.brain.seen()[0].(host.Reload)
				if !ok || ev.Trust != trust.Strict || ev.Probe.Mode != probe.Local || len(ev.Peers) != 1 || ev.Peers[0].Self.Certificate == nil {
					t.Errorf("the host was told %+v", ev)
				}
			})
		})
	}
}

func TestPolicyOfARunningHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, nil)
		defer r.close(t)
		f := selector.Flow{Proto: selector.TCP, Local: local, Remote: remote, RemotePort: 80}
		got, err := r.TestPolicy(t.Context(), f)
		if err != nil || got.Flow != f || got.Entry == "" {
			t.Errorf("%+v, %v", got, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := r.TestPolicy(ctx, f); err == nil {
			t.Error("an answer after the question was withdrawn")
		}
	})
}
