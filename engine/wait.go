package engine

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/btns-ipsec/btns/host"
)

// waiter is one call of Wait, owned by the loop.
type waiter struct {
	addr  netip.Addr
	since time.Time
	done  chan host.Explanation // takes one
}

// again is how often Wait asks anew, as an application that sends again would.
const again = time.Second

// Wait asks for protection towards addr, and returns what became of it: at once when there is protection, or a refusal
// that is newer than the call; else when ctx ends.
func (e *Engine) Wait(ctx context.Context, addr netip.Addr) (host.Explanation, error) {
	w := &waiter{addr: addr, done: make(chan host.Explanation, 1)}
	if err := e.ask(ctx, func(now time.Time) {
		w.since = now
		e.loop.waiters = append(e.loop.waiters, w)
		e.connect(now, w)
	}); err != nil {
		return host.Explanation{}, err
	}
	ticks := time.NewTicker(again)
	defer ticks.Stop()
	for {
		select {
		case x := <-w.done:
			return x, nil
		case <-e.done:
			return host.Explanation{}, ErrStopped
		case <-ticks.C:
			e.inbox.put(item{call: func() { e.connect(time.Now(), w) }}, maxRepeated)
		case <-ctx.Done():
			// The answer is what is known now, so the question outlives its context.
			return query(context.WithoutCancel(ctx), e, func(now time.Time) host.Explanation {
				e.loop.waiters = slices.DeleteFunc(e.loop.waiters, func(o *waiter) bool { return o == w })
				return e.host.Explain(now, addr, 0)
			})
		}
	}
}

func (e *Engine) connect(now time.Time, w *waiter) {
	if slices.Contains(e.loop.waiters, w) && e.host.Explain(now, w.addr, 0).State != host.StateProtected {
		e.step(now, host.Connect{Remote: w.addr})
	}
	e.checkWaiters()
}

// checkWaiters answers those whose wait is over.
func (e *Engine) checkWaiters() {
	if len(e.loop.waiters) == 0 {
		return
	}
	now := time.Now()
	e.loop.waiters = slices.DeleteFunc(e.loop.waiters, func(w *waiter) bool {
		x := e.host.Explain(now, w.addr, 0)
		if x.State != host.StateProtected && (x.State != host.StateRefused || !e.refusedSince(now, w)) {
			return false
		}
		w.done <- x
		return true
	})
}

func (e *Engine) refusedSince(now time.Time, w *waiter) bool {
	for _, p := range e.host.Peers(now) {
		if p.Addr == w.addr {
			return p.State == host.StateRefused && !p.Since.Before(w.since)
		}
	}
	return false
}
