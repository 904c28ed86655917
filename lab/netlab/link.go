package netlab

import "strings"

// Link joins two hosts by a pair of interfaces. More pairs than one join more hosts than two: see Switch.
func (l *Lab) Link(a *Host, devA string, b *Host, devB string) {
	l.t.Helper()
	a.IP("link", "add", devA, "type", "veth", "peer", "name", devB, "netns", b.ns)
	a.IP("link", "set", "dev", devA, "up")
	b.IP("link", "set", "dev", devB, "up")
}

// Addr gives an interface of the host its addresses.
func (h *Host) Addr(dev string, cidrs ...string) {
	h.lab.t.Helper()
	for _, c := range cidrs {
		args := []string{"addr", "add", c, "dev", dev}
		if strings.Contains(c, ":") {
			args = append(args, "nodad") // usable at once
		}
		h.IP(args...)
	}
}

// Switch joins hosts, each by its eth0, on one link. It is a host of its own with a port named after each of them: that is
// where to capture. On its own interface a btns host sees more than the link does, for what came out of ESP is handed back
// to the interface it came in on.
func (l *Lab) Switch(name string, hosts ...*Host) *Host {
	l.t.Helper()
	s := l.Host(name)
	s.Sysctl("net/ipv6/conf/all/disable_ipv6", "1")
	s.IP("link", "add", "br0", "type", "bridge")
	s.IP("link", "set", "dev", "br0", "up")
	for _, h := range hosts {
		l.Link(h, "eth0", s, h.Name)
		s.IP("link", "set", "dev", h.Name, "master", "br0")
	}
	return s
}

// The two hosts that most tests are about. Inner addresses stand on lo, for tunnels.
const (
	A4, B4   = "192.0.2.1", "192.0.2.2"
	A6, B6   = "2001:db8::1", "2001:db8::2"
	AIn4     = "198.51.100.1"
	BIn4     = "203.0.113.1"
	AIn6     = "2001:db8:a::1"
	BIn6     = "2001:db8:b::1"
	LinkName = "eth0"
)

// Pair makes two hosts on one link, with addresses of both families: A4 and A6, B4 and B6. The link is a Switch.
func (l *Lab) Pair() (a, b, wire *Host) {
	l.t.Helper()
	a, b = l.Host("a"), l.Host("b")
	wire = l.Switch("s", a, b)
	l.number(a, b)
	return a, b, wire
}

// Direct is Pair without a switch between, for measurements.
func (l *Lab) Direct() (a, b *Host) {
	l.t.Helper()
	a, b = l.Host("a"), l.Host("b")
	l.Link(a, LinkName, b, LinkName)
	l.number(a, b)
	return a, b
}

func (l *Lab) number(a, b *Host) {
	l.t.Helper()
	a.Addr(LinkName, A4+"/24", A6+"/64")
	b.Addr(LinkName, B4+"/24", B6+"/64")
}

// Inner gives the two hosts of Pair their inner addresses, and routes to each other's.
func (l *Lab) Inner(a, b *Host) {
	l.t.Helper()
	a.Addr("lo", AIn4+"/32", AIn6+"/128")
	b.Addr("lo", BIn4+"/32", BIn6+"/128")
	a.IP("route", "add", BIn4, "via", B4, "src", AIn4)
	b.IP("route", "add", AIn4, "via", A4, "src", BIn4)
	a.IP("route", "add", BIn6, "via", B6, "src", AIn6)
	b.IP("route", "add", AIn6, "via", A6, "src", BIn6)
}

// BehindNAT makes two hosts with a router between them that masquerades a: a is 192.168.77.2, b sees A4. IPv4 only, and
// b cannot reach a first.
func (l *Lab) BehindNAT() (a, router, b *Host) {
	l.t.Helper()
	a, router, b = l.Host("a"), l.Host("n"), l.Host("b")
	l.Link(a, LinkName, router, "eth0")
	l.Link(b, LinkName, router, "eth1")
	a.Addr(LinkName, "192.168.77.2/24")
	router.Addr("eth0", "192.168.77.1/24")
	router.Addr("eth1", A4+"/24")
	b.Addr(LinkName, B4+"/24")
	a.IP("route", "add", "default", "via", "192.168.77.1")
	router.Masquerade("eth0", "192.168.77.0/24")
	return a, router, b
}

// Masquerade makes the host a router that hides the addresses behind its interface dev wherever else it sends them, as
// container runtimes do.
func (h *Host) Masquerade(dev, cidr string) {
	h.lab.t.Helper()
	h.Sysctl("net/ipv4/ip_forward", "1")
	h.NFT(`table ip labnat { chain post { type nat hook postrouting priority 100;
		oifname != "` + dev + `" ip saddr ` + cidr + ` masquerade; }; }`)
}
