//go:build linux

package tun

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/btns-ipsec/btns/dataplane/flow"
	"github.com/btns-ipsec/btns/dataplane/xfrm"
)

// host is what the plane changes on the host. Its methods are called under the plane's lock, but pathMTU and source.
type host struct {
	p      *Plane
	cfg    Config
	nl     *netlink.Handle
	link   netlink.Link
	mtu    int // of the device
	filter *filter
	redir  *redirector // nil where the kernel has no such programs
	adding []prefixChange
	gone   []prefixChange
	routes routes

	asking sync.Mutex // one question at a time on the socket for questions
	ask    *netlink.Handle

	facts  int                          // a socket to ask about interfaces by
	recent map[netip.Addr]netlink.Route // asked for during one Apply
	links  map[int]linkFacts            // as well
}

type prefixChange struct {
	prefix netip.Prefix
	state  flow.State
	local  netip.Addr // as installed
	asked  netip.Addr // as asked for
}

func openHost(p *Plane) (_ *host, err error) {
	h := &host{p: p, cfg: p.cfg, routes: newRoutes(), recent: make(map[netip.Addr]netlink.Route), links: make(map[int]linkFacts), facts: -1}
	defer func() {
		if err != nil {
			_ = h.close()
		}
	}()
	if h.nl, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return nil, fmt.Errorf("tun: netlink: %w", err)
	}
	if h.ask, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return nil, fmt.Errorf("tun: netlink: %w", err)
	}
	if h.facts, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return nil, fmt.Errorf("tun: socket: %w", err)
	}
	if h.link, err = h.nl.LinkByName(p.name); err != nil {
		return nil, fmt.Errorf("tun: %s: %w", p.name, err)
	}
	h.mtu = innerMTU(h.defaultPath())
	if err = h.nl.LinkSetMTU(h.link, h.mtu); err != nil {
		return nil, fmt.Errorf("tun: %s: set MTU %d: %w", p.name, h.mtu, err)
	}
	if h.cfg.Unrouted {
		return h, h.up()
	}
	if err = shutTables(); err != nil {
		return nil, err
	}
	if err = h.clean(); err != nil {
		return nil, err
	}
	h.quietDevice()
	if err = h.up(); err != nil {
		return nil, err
	}
	if h.redir, err = newRedirector(h); err != nil {
		p.problems.add("Decrypted packets enter on %s, so filter rules for other interfaces do not see them: %v.", p.name, err)
	}
	if err = errors.Join(h.addDefault(), h.addRules()); err != nil {
		return nil, err
	}
	if h.filter, err = openFilter(h.cfg, p.name); err != nil {
		return nil, err
	}
	return h, nil
}

func (h *host) up() error {
	if err := h.nl.LinkSetUp(h.link); err != nil {
		return fmt.Errorf("tun: %s: set up: %w", h.p.name, err)
	}
	return nil
}

// espOverhead is the most that AES-GCM in tunnel mode in UDP over IPv4 adds (spec/esp.md §11).
const espOverhead = 65

// ethernet is the MTU of a path that nothing is known of.
const ethernet = 1500

// innerMTU is what the device announces for a path. Packets of SAs that add more are answered with too-big.
func innerMTU(path int) int { return max((path-espOverhead)&^3, 1280) }

// defaultPath is the MTU towards the rest of the world: that of the default route, or where there is none the least of
// the interfaces that are up.
func (h *host) defaultPath() int {
	for _, a := range [...]string{"192.0.2.1", "2001:db8::1"} {
		if r, err := h.route(netip.MustParseAddr(a)); err == nil && r.Type == unix.RTN_UNICAST && r.Gw != nil {
			return routeMTU(r, h.linkFacts)
		}
	}
	links, err := h.nl.LinkList()
	if err != nil {
		return ethernet
	}
	least := 0
	for _, l := range links {
		a := l.Attrs()
		if a.Name != h.p.name && a.Flags&net.FlagLoopback == 0 && a.Flags&net.FlagUp != 0 && (least == 0 || a.MTU < least) {
			least = a.MTU
		}
	}
	if least == 0 {
		return ethernet
	}
	return least
}

// route asks the system for the route of the plane's own packets.
func (h *host) route(remote netip.Addr) (netlink.Route, error) {
	h.asking.Lock()
	defer h.asking.Unlock()
	all, err := h.ask.RouteGetWithOptions(net.IP(remote.AsSlice()), &netlink.RouteGetOptions{Mark: h.cfg.outer()})
	if err != nil {
		return netlink.Route{}, err
	}
	if len(all) == 0 {
		return netlink.Route{}, unix.ENETUNREACH
	}
	return all[0], nil
}

// pathMTU is how large outer packets to remote may be, as far as the system knows.
func (h *host) pathMTU(remote netip.Addr) int {
	r, err := h.route(remote.Unmap())
	if err != nil {
		return ethernet
	}
	return routeMTU(r, h.linkFacts)
}

// routeMTU is how large packets by a route may be. It asks for the interface where the route does not say.
func routeMTU(r netlink.Route, ask func(index int) (linkFacts, error)) int {
	if r.MTU > 0 {
		return r.MTU
	}
	f, err := ask(r.LinkIndex)
	if err != nil {
		return ethernet
	}
	return min(f.mtu, 1<<16-1)
}

func (h *host) linkFacts(index int) (linkFacts, error) {
	h.asking.Lock()
	defer h.asking.Unlock()
	return factsOf(h.facts, index)
}

// routeNow is route, asked once for each address until forget: a new SA and the prefix of its peer come together.
func (h *host) routeNow(remote netip.Addr) (netlink.Route, error) {
	remote = remote.Unmap()
	if r, ok := h.recent[remote]; ok {
		return r, nil
	}
	r, err := h.route(remote)
	if err == nil {
		h.recent[remote] = r
	}
	return r, err
}

// linkNow is linkFacts, asked once for each interface until forget.
func (h *host) linkNow(index int) (linkFacts, error) {
	if f, ok := h.links[index]; ok {
		return f, nil
	}
	f, err := h.linkFacts(index)
	if err == nil {
		h.links[index] = f
	}
	return f, err
}

// forget has routeNow and linkNow ask anew.
func (h *host) forget() {
	clear(h.recent)
	clear(h.links)
}

func (h *host) source(remote netip.Addr) (netip.Addr, error) {
	r, err := h.route(remote.Unmap())
	if err != nil {
		return netip.Addr{}, fmt.Errorf("tun: route to %v: %w", remote, err)
	}
	a, ok := netip.AddrFromSlice(r.Src)
	if !ok {
		return netip.Addr{}, fmt.Errorf("tun: route to %v: no source address", remote)
	}
	return a.Unmap(), nil
}

// setPrefix notes a change for withdraw and install, which come in this order: what is returned is not given any more.
func (h *host) setPrefix(prefix netip.Prefix, s flow.State, local netip.Addr) {
	c := prefixChange{prefix, s, local, local}
	if s == flow.Clear {
		h.adding = slices.DeleteFunc(h.adding, func(o prefixChange) bool { return o.prefix == prefix })
		h.gone = append(h.gone, c)
		return
	}
	h.adding = append(h.adding, c)
}

// setRules notes what the SPD says for install.
func (h *host) setRules(rules []flow.Rule) {
	if !h.cfg.Unrouted {
		h.filter.setRules(rules)
	}
}

// withdraw carries out what returns prefixes to the host, and names those.
func (h *host) withdraw() (returned []netip.Prefix) {
	for _, c := range h.gone {
		if _, ok := h.routes.get(c.prefix); !ok || h.cfg.Unrouted {
			continue
		}
		h.routes.remove(c.prefix)
		_ = h.nl.RouteDel(h.routeOf(c)) // gone with an address is gone too
		if h.redir != nil {
			h.redir.uncover(c.prefix)
		}
		h.filter.forget(c.prefix)
		returned = append(returned, c.prefix)
	}
	h.gone = h.gone[:0]
	return returned
}

// install carries out what gives prefixes to the plane.
func (h *host) install() error {
	var failed error
	if !h.cfg.Unrouted {
		for _, c := range h.adding {
			if err := h.installPrefix(c); err != nil && failed == nil {
				failed = err
			}
		}
		if err := errors.Join(h.filter.commit(), h.filter.succeed()); err != nil && failed == nil {
			failed = err
		}
	}
	h.adding = h.adding[:0]
	return failed
}

func (h *host) installPrefix(c prefixChange) error {
	if !c.local.IsValid() {
		c.local, _ = h.source(c.prefix.Addr())
	}
	old, known := h.routes.get(c.prefix)
	if !known || old.local != c.local {
		r := h.routeOf(c)
		err := h.nl.RouteReplace(r)
		if err != nil && r.Src != nil { // an address that is not ready yet: the system chooses
			r.Src = nil
			err = h.nl.RouteReplace(r)
		}
		if err != nil {
			return fmt.Errorf("tun: route %v to %s: %w", c.prefix, h.p.name, err)
		}
	}
	h.filter.set(c.prefix, c.state)
	if h.redir != nil && (!known || old.local != c.local) {
		if err := h.redir.cover(c); err != nil {
			return fmt.Errorf("tun: redirect %v: %w", c.prefix, err)
		}
	}
	h.routes.set(c)
	return nil
}

// routeOf is the route of a prefix to the device. The source is the host's real address.
func (h *host) routeOf(c prefixChange) *netlink.Route {
	bits := c.prefix.Addr().BitLen()
	r := &netlink.Route{
		LinkIndex: h.link.Attrs().Index, Table: h.cfg.Table, Protocol: routeProtocol, Scope: netlink.SCOPE_LINK,
		Dst: &net.IPNet{IP: c.prefix.Addr().AsSlice(), Mask: net.CIDRMask(c.prefix.Bits(), bits)},
	}
	if c.prefix.Bits() != bits {
		r.Table++
	}
	if bits == 128 {
		r.Scope = netlink.SCOPE_UNIVERSE
	}
	if c.local.IsValid() && c.local.BitLen() == bits {
		r.Src = c.local.AsSlice()
	}
	return r
}

// routeProtocol marks routes and rules as the plane's.
const routeProtocol = 0xb7

var families = [...]int{unix.AF_INET, unix.AF_INET6}

// rules send packets to the plane's tables: all but the plane's own. What is forwarded is looked up with its interface,
// and what came out of ESP has the mark then; that its sender is reached by the real interface was checked as if from lo
// (rp_filter). Forwarded packets to hosts have nothing to do with this host's SAs, unless they get its address when they
// leave; then the redirector takes them.
func (h *host) rules(family int) []*netlink.Rule {
	mark := h.cfg.outer()
	var out []*netlink.Rule
	for table := h.cfg.Table; table <= h.cfg.Table+1; table++ {
		r := netlink.NewRule()
		r.Family, r.Table, r.Priority, r.Protocol = family, table, h.cfg.Table, routeProtocol
		r.IifName, r.Mark, r.Mask, r.Invert = "lo", mark, &mark, true
		if h.redir != nil && table == h.cfg.Table {
			r.Mark, r.Invert = 0, false
		}
		out = append(out, r)
	}
	r := netlink.NewRule()
	mask := h.cfg.Mark
	r.Family, r.Table, r.Priority, r.Protocol = family, h.cfg.Table+2, h.cfg.Table, routeProtocol
	r.IifName, r.Mark, r.Mask = "lo", h.cfg.opened(), &mask
	return append(out, r)
}

// addDefault has the device take what is to wait.
func (h *host) addDefault() error {
	for _, all := range [...]netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0)} {
		r := h.routeOf(prefixChange{prefix: all})
		r.Table = h.cfg.Table + 2
		if err := h.nl.RouteReplace(r); err != nil && all.Addr().Is4() {
			return fmt.Errorf("tun: route what waits to %s: %w", h.p.name, err)
		}
	}
	return nil
}

func (h *host) addRules() error {
	for _, f := range families {
		for _, r := range h.rules(f) {
			err := h.nl.RuleAdd(r)
			if err != nil && f == unix.AF_INET6 && errors.Is(err, unix.EAFNOSUPPORT) {
				continue
			}
			if err != nil && !errors.Is(err, unix.EEXIST) {
				return fmt.Errorf("tun: add rule: %w", err)
			}
		}
	}
	return nil
}

// clean removes rules and routes that a plane left behind.
func (h *host) clean() error {
	failed := detachAll(h.nl)
	for _, f := range families {
		rules, err := h.nl.RuleListFiltered(f, &netlink.Rule{Priority: h.cfg.Table}, netlink.RT_FILTER_PRIORITY)
		if err != nil {
			continue
		}
		for i := range rules {
			if t := rules[i].Table; t < h.cfg.Table || t > h.cfg.Table+2 {
				continue
			}
			rules[i].Family = f
			if err := h.nl.RuleDel(&rules[i]); err != nil && !errors.Is(err, unix.ENOENT) {
				failed = fmt.Errorf("tun: remove rule: %w", err)
			}
		}
		for t := h.cfg.Table; t <= h.cfg.Table+2; t++ {
			routes, err := h.nl.RouteListFiltered(f, &netlink.Route{Table: t}, netlink.RT_FILTER_TABLE)
			if err != nil {
				continue
			}
			for i := range routes {
				_ = h.nl.RouteDel(&routes[i])
			}
		}
	}
	return failed
}

func (h *host) close() error {
	var failed error
	if h.nl != nil && !h.cfg.Unrouted {
		failed = h.clean()
	}
	if h.redir != nil {
		if err := h.redir.close(); err != nil && failed == nil {
			failed = err
		}
	}
	if h.filter != nil {
		if err := h.filter.close(); err != nil && failed == nil {
			failed = err
		}
	}
	if h.nl != nil {
		h.nl.Close()
	}
	if h.ask != nil {
		h.ask.Close()
	}
	h.asking.Lock()
	defer h.asking.Unlock()
	if h.facts >= 0 {
		_ = unix.Close(h.facts)
		h.facts = -1
	}
	return failed
}

// Cleanup removes what a plane with that configuration left on the host that did not come to its end. Nothing of a
// living plane may be there.
func Cleanup(c Config) error {
	nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("tun: netlink: %w", err)
	}
	defer nl.Close()
	h := &host{cfg: c.withDefaults(), nl: nl}
	err = h.clean()
	nft, e := nftables.New()
	if e == nil {
		e = dropTables(nft)
	}
	if e != nil {
		e = fmt.Errorf("tun: nftables: %w", e)
	}
	return errors.Join(err, e, xfrm.Cleanup(xfrm.Config{}))
}
