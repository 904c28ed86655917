package engine

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/btns-ipsec/btns/dataplane"
	"github.com/btns-ipsec/btns/host"
	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/trust"
)

// ask runs f on the loop and waits for it. On an error it may still run later.
func (e *Engine) ask(ctx context.Context, f func(now time.Time)) error {
	ran := make(chan struct{})
	if !e.inbox.put(item{call: func() { f(time.Now()); close(ran) }}, 0) {
		return ErrStopped
	}
	select {
	case <-ran:
		return nil
	case <-e.done:
		return ErrStopped
	case <-ctx.Done():
		return ctx.Err()
	}
}

// query is ask with an answer.
func query[T any](ctx context.Context, e *Engine, f func(now time.Time) T) (T, error) {
	answer := make(chan T, 1) // not a variable: f may run after the caller has given up
	if err := e.ask(ctx, func(now time.Time) { answer <- f(now) }); err != nil {
		var zero T
		return zero, err
	}
	return <-answer, nil
}

// Status is the host in numbers, and what is wrong.
func (e *Engine) Status(ctx context.Context) (host.StatusView, dataplane.Info, error) {
	type answer struct {
		host  host.StatusView
		plane dataplane.Info
	}
	a, err := query(ctx, e, func(now time.Time) answer {
		e.step(now, host.ClearedRead{Cleared: e.plane.Cleared(nil)})
		v := e.host.Status(now)
		if v.Drops == nil {
			v.Drops = make(map[string]uint64)
		}
		v.Drops["queue"] += e.inbox.drops()
		v.Drops["ike-send-failed"] += e.loop.sendFailed
		v.Problems = append(slices.Clone(e.cfg.Problems), v.Problems...)
		for p := range e.loop.problems {
			v.Problems = append(v.Problems, p)
		}
		return answer{v, e.plane.Info()}
	})
	return a.host, a.plane, err
}

// Peers returns every peer, with its counters as of now.
func (e *Engine) Peers(ctx context.Context) ([]host.PeerView, error) {
	return query(ctx, e, func(now time.Time) []host.PeerView {
		e.step(now, host.CountersRead{Counters: e.counters()})
		return e.host.Peers(now)
	})
}

// Records returns what is recorded of peers.
func (e *Engine) Records(ctx context.Context) ([]trust.Record, error) {
	return query(ctx, e, func(time.Time) []trust.Record { return e.host.Records() })
}

// Explain says why traffic with an address is treated as it is; port 0 is any.
func (e *Engine) Explain(ctx context.Context, addr netip.Addr, port uint16) (host.Explanation, error) {
	return query(ctx, e, func(now time.Time) host.Explanation { return e.host.Explain(now, addr, port) })
}

// Down deletes the SAs with a peer and returns how many pairs there were.
func (e *Engine) Down(ctx context.Context, addr netip.Addr) (int, error) {
	return query(ctx, e, func(now time.Time) int {
		n := 0
		for _, p := range e.host.Peers(now) {
			if p.Addr == addr {
				n += len(p.Children)
			}
		}
		e.step(now, host.Down{Remote: addr})
		return n
	})
}

// Forget removes what is recorded of addr, or when that is invalid of key, and returns how many records there were.
func (e *Engine) Forget(ctx context.Context, addr netip.Addr, key identity.Fingerprint) (int, error) {
	n, err := query(ctx, e, func(now time.Time) int {
		before := len(e.host.Records())
		e.step(now, host.Forget{Addr: addr, Key: key})
		return before - len(e.host.Records())
	})
	if err != nil {
		return 0, err
	}
	return n, e.saver.flush(ctx)
}

// Accept records key for addr, or when that is zero the key that was refused last, and returns it; zero when there is
// none.
func (e *Engine) Accept(ctx context.Context, addr netip.Addr, key identity.Fingerprint) (identity.Fingerprint, error) {
	got, err := query(ctx, e, func(now time.Time) (got identity.Fingerprint) {
		for _, a := range e.step(now, host.Accept{Addr: addr, Key: key}) {
			if save, ok := a.(host.Save); ok && save.Record.Addr == addr {
				got = save.Record.Key
			}
		}
		return got
	})
	if err != nil {
		return got, err
	}
	return got, e.saver.flush(ctx)
}

// Watch calls each for every report, with the number of similar ones left out before it, until ctx ends or each fails.
func (e *Engine) Watch(ctx context.Context, each func(r host.Report, suppressed uint64) error) error {
	return e.teller.watch(ctx, e.done, each)
}
