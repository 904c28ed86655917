package engine

import (
	"context"
	"time"

	"github.com/btns-ipsec/btns/host"
	"github.com/btns-ipsec/btns/selector"
)

// Reload puts another configuration in force, whole or not at all, and says what it changed. Of c only policy, peers and
// their certificates, trust and probe count. Certified is as in [Options].
func (e *Engine) Reload(ctx context.Context, c host.Config, certified []string) ([]string, error) {
	ev := host.Reload{
		Policy: c.Policy, Peers: c.Peers, Anchors: c.Anchors, Certified: c.Certified, Trust: c.Trust.Mode, Recycled: c.Trust.Recycled,
		Probe: c.Probe.Scope,
	}
	got, err := query(ctx, e, func(now time.Time) (r host.Reloaded) {
		if r.Err = lendKey(c.Peers, e.signer(), certified); r.Err != nil {
			return r
		}
		for _, a := range e.step(now, ev) {
			if a, ok := a.(host.Reloaded); ok {
				r = a
			}
		}
		return r
	})
	if err != nil {
		return nil, err
	}
	return got.Changes, got.Err
}

// TestPolicy says what the policy in force makes of a packet.
func (e *Engine) TestPolicy(ctx context.Context, f selector.Flow) (host.PolicyTest, error) {
	return query(ctx, e, func(now time.Time) host.PolicyTest { return e.host.TestPolicy(now, f) })
}
