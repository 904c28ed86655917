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
	name  string // by which the user asked for it; may be empty
	named bool   // the host has been told
	since time.Time
	done  chan host.PeerView // takes one
	// last is what came of the last attempt, while another is under way.
	last host.PeerView
}

// Wait asks anew as an application that sends again would: soon, and then ever more seldom.
const (
	firstAgain = time.Second
	maxAgain   = 8 * time.Second
)

// Wait asks for protection towards addr, which the user named by name unless that is empty, and returns what became of it: at
// once when there is protection, or a refusal that is newer than the call; else when ctx ends.
func (e *Engine) Wait(ctx context.Context, addr netip.Addr, name string) (host.PeerView, error) {
	w := &waiter{addr: addr, name: name, done: make(chan host.PeerView, 1)}
	if err := e.ask(ctx, func(now time.Time) {
		w.since = now
		e.loop.waiters = append(e.loop.waiters, w)
		e.connect(now, w)
	}); err != nil {
		return host.PeerView{}, err
	}
	pause := firstAgain
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for {
		select {
		case v := <-w.done:
			return v, nil
		case <-e.done:
			return host.PeerView{}, ErrStopped
		case <-timer.C:
			pause = min(2*pause, maxAgain)
			timer.Reset(pause)
			e.inbox.put(item{call: func() { e.connect(time.Now(), w) }}, maxRepeated)
		case <-ctx.Done():
			// The answer is what is known now, so the question outlives its context.
			return query(context.WithoutCancel(ctx), e, func(now time.Time) host.PeerView {
				e.loop.waiters = slices.DeleteFunc(e.loop.waiters, func(o *waiter) bool { return o == w })
				v := e.view(now, addr)
				if trying(v.State) && w.last.State != "" {
					return w.last
				}
				return v
			})
		}
	}
}

func (e *Engine) connect(now time.Time, w *waiter) {
	// What is protected is not asked for again, except once by its name: the key that is recorded for that may be another.
	if slices.Contains(e.loop.waiters, w) && (w.name != "" && !w.named || e.host.Explain(now, w.addr, 0).State != host.StateProtected) {
		w.named = true
		e.step(now, host.Connect{Remote: w.addr, Name: w.name})
	}
	e.checkWaiters()
}

// trying reports whether the outcome is still open.
func trying(s host.PeerState) bool {
	return s == host.StateProbing || s == host.StateNegotiating
}

// checkWaiters answers those whose wait is over.
func (e *Engine) checkWaiters() {
	if len(e.loop.waiters) == 0 {
		return
	}
	now := time.Now()
	e.loop.waiters = slices.DeleteFunc(e.loop.waiters, func(w *waiter) bool {
		if trying(e.host.Explain(now, w.addr, 0).State) {
			return false
		}
		v := e.view(now, w.addr)
		if v.State == host.StateProtected || v.State == host.StateRefused && !v.Since.Before(w.since) {
			w.done <- v
			return true
		}
		w.last = v
		return false
	})
}

// view is the peer that packets to addr belong to. A configured one may have another address of its own.
func (e *Engine) view(now time.Time, addr netip.Addr) host.PeerView {
	x := e.host.Explain(now, addr, 0)
	for _, p := range e.host.Peers(now) {
		if p.Addr == addr {
			return p
		}
	}
	v := host.PeerView{Addr: addr, State: x.State, Reason: x.Reason, Why: x.Why, Hint: x.Hint}
	if n := len(x.Steps); v.Why == "" && n > 0 {
		v.Why = x.Steps[n-1].Text
	}
	return v
}
