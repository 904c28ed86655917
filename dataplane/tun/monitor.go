//go:build linux

package tun

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/btns-ipsec/btns/dataplane"
	"github.com/btns-ipsec/btns/dataplane/flow"
	"github.com/btns-ipsec/btns/dataplane/xfrm"
	"github.com/btns-ipsec/btns/selector"
)

// settleTime is how long addresses and routes must have been quiet before the plane follows them.
const settleTime = 300 * time.Millisecond

// monitor hears of what happens on the host beside packets: where new ones go, and that addresses or routes change.
type monitor struct {
	p        *Plane
	acquires *xfrm.Watcher
	done     chan struct{}
	stopped  chan struct{}
}

func openMonitor(p *Plane) (*monitor, error) {
	m := &monitor{p: p, done: make(chan struct{}), stopped: make(chan struct{})}
	addrs, routes := make(chan netlink.AddrUpdate, 16), make(chan netlink.RouteUpdate, 64)
	quiet := func(error) {}
	if err := netlink.AddrSubscribeWithOptions(addrs, m.done, netlink.AddrSubscribeOptions{ErrorCallback: quiet}); err != nil {
		return nil, fmt.Errorf("tun: watch addresses: %w", err)
	}
	if err := netlink.RouteSubscribeWithOptions(routes, m.done, netlink.RouteSubscribeOptions{ErrorCallback: quiet}); err != nil {
		close(m.done)
		return nil, fmt.Errorf("tun: watch routes: %w", err)
	}
	go m.run(addrs, routes)
	var err error
	if m.acquires, err = xfrm.Listen(xfrm.Config{Exempt: p.cfg.outer()}, p.acquired); err != nil {
		p.problems.add("New hosts are not noticed when this host speaks to them first: %v.", err)
	}
	return m, nil
}

func (m *monitor) close() error {
	var err error
	if m.acquires != nil {
		err = m.acquires.Close()
	}
	close(m.done)
	<-m.stopped
	return err
}

// run tells of changes once they have settled. A channel that is closed has failed; the others go on.
func (m *monitor) run(addrs <-chan netlink.AddrUpdate, routes <-chan netlink.RouteUpdate) {
	defer close(m.stopped)
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	defer timer.Stop()
	for {
		select {
		case <-m.done:
			return
		case u, ok := <-addrs:
			if !ok {
				addrs = nil
			} else if u.LinkIndex != m.p.host.link.Attrs().Index {
				timer.Reset(settleTime)
			}
		case u, ok := <-routes:
			if !ok {
				routes = nil
			} else if !m.own(u) {
				timer.Reset(settleTime)
			}
		case <-timer.C:
			m.p.follow()
			m.p.event(dataplane.AddressChanged{})
		}
	}
}

// own reports whether a change is the plane's, or only the kernel's memory of a path.
func (m *monitor) own(u netlink.RouteUpdate) bool {
	return u.LinkIndex == m.p.host.link.Attrs().Index || u.Table == m.p.cfg.Table || u.Table == m.p.cfg.Table+1 || u.Flags&unix.RTM_F_CLONED != 0
}

// acquired is told where packets go that are not the plane's.
func (p *Plane) acquired(f selector.Flow) {
	if _, _, known := p.table.Load().State(f.Remote); known || !p.host.isLocal(f.Local) {
		return
	}
	if p.asked.allow(f.Remote, time.Now().UnixNano()) {
		p.event(dataplane.Acquire{Flow: f})
	}
}

// renew has the kernel tell of the next packet to prefixes that have been returned to the host: it would not for half a
// minute since the acquire that they were protected for. The limit of p.asked holds for these too.
func (m *monitor) renew(prefixes []netip.Prefix) {
	if m == nil || m.acquires == nil {
		return
	}
	for _, prefix := range prefixes {
		_ = m.acquires.Renew(prefix) // then it tells later
	}
}

// isLocal reports whether an address is one of this host's own: others are in packets that it forwards.
func (h *host) isLocal(a netip.Addr) bool {
	r, err := h.route(a)
	return err == nil && r.Type == unix.RTN_LOCAL
}

// follow has routes, redirection and paths agree with changed addresses and routes of the host.
func (p *Plane) follow() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopping.Load() {
		return
	}
	defer p.host.forget()
	p.host.refresh()
	p.table.Load().Pairs(func(pair *flow.Pair) bool {
		if s := saOf(pair); s != nil {
			s.setPath(p.host.pathMTU(pair.OuterRemote.Addr()))
		}
		return true
	})
}

// refresh installs every prefix again whose source address or interface may have changed.
func (h *host) refresh() {
	h.forget()
	if h.redir != nil {
		if err := h.redir.learn(); err != nil {
			h.p.problems.add("Addresses of this host could not be read: %v.", err)
		}
	}
	for _, c := range h.routes.list() {
		h.routes.remove(c.prefix)
		c.local = c.asked
		if err := h.installPrefix(c); err != nil {
			h.routes.set(c) // the way may come back
		}
	}
	if err := h.filter.commit(); err != nil {
		h.p.problems.add("%v", err)
	}
}
