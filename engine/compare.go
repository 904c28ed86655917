package engine

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/btns-ipsec/btns/host"
)

// comparer is one call of Compare, owned by the loop.
type comparer struct {
	addr netip.Addr
	done chan host.CompareView // takes one
}

// Compare begins the comparison of short strings with the host at addr, and returns when there is a string to compare, or why
// there will be none. When the host could not begin it, the reports say so.
func (e *Engine) Compare(ctx context.Context, addr netip.Addr) (host.CompareView, []host.Report, error) {
	c := &comparer{addr, make(chan host.CompareView, 1)}
	reports, err := query(ctx, e, func(now time.Time) []host.Report {
		reports := operatorReports(e.step(now, host.Compare{Addr: addr}))
		if !refused(reports) {
			e.loop.comparers = append(e.loop.comparers, c)
			e.checkComparers()
		}
		return reports
	})
	if err != nil || refused(reports) {
		return host.CompareView{}, reports, err
	}
	select {
	case v := <-c.done:
		return v, reports, nil
	case <-e.done:
		return host.CompareView{}, nil, ErrStopped
	case <-ctx.Done():
		e.inbox.put(item{call: func() {
			e.loop.comparers = slices.DeleteFunc(e.loop.comparers, func(o *comparer) bool { return o == c })
		}}, 0)
		return host.CompareView{}, nil, ctx.Err()
	}
}

// checkComparers answers those whose comparison waits no longer.
func (e *Engine) checkComparers() {
	if len(e.loop.comparers) == 0 {
		return
	}
	now := time.Now()
	e.loop.comparers = slices.DeleteFunc(e.loop.comparers, func(c *comparer) bool {
		v := e.host.Comparing(now, c.addr)
		if v.State == host.CompareWaiting {
			return false
		}
		c.done <- v
		return true
	})
}
