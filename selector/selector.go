package selector

import "net/netip"

// Selector is one range of addresses, ports and protocols of one end of a flow. Addresses are of one family, not mapped
// and without a zone. OPAQUE ports (hidden by fragmentation) are From 65535, To 0.
type Selector struct {
	Proto uint8 // next-layer protocol; 0 is any
	Ports PortRange
	From  netip.Addr
	To    netip.Addr // inclusive
}

// PortRange is inclusive. For ICMP a port is type<<8 | code (RFC 7296 §3.13.1).
type PortRange struct{ From, To uint16 }

var (
	// AnyPort is every port, and ports that are hidden (RFC 4301 §4.4.1.1: ANY includes OPAQUE).
	AnyPort = PortRange{0, 65535}
	// Opaque is ports that a fragment hides, and nothing else.
	Opaque = PortRange{65535, 0}
)

// Set is a union of selectors. The order matters only on the wire: the first may be the packet that asked
// (RFC 7296 §2.9).
type Set []Selector

// Flow is what selectors look at in one packet, as the local host sees it. For ICMP both ports are type<<8 | code.
type Flow struct {
	Proto      uint8
	LocalPort  uint16
	RemotePort uint16
	NoPorts    bool // a non-first fragment: ports are OPAQUE
	Local      netip.Addr
	Remote     netip.Addr
}

// Next-layer protocols with names of their own in selectors.
const (
	ICMP   = 1
	TCP    = 6
	UDP    = 17
	ICMPv6 = 58
	SCTP   = 132
)

// Host is everything at one address.
func Host(a netip.Addr) Selector {
	a = plain(a)
	return Selector{Ports: AnyPort, From: a, To: a}
}

// Prefix is everything in a prefix.
func Prefix(p netip.Prefix) Selector {
	p = netip.PrefixFrom(plain(p.Addr()), unmappedBits(p)).Masked()
	return Selector{Ports: AnyPort, From: p.Addr(), To: last(p)}
}

// Any4 is all of IPv4, Any6 all of IPv6.
func Any4() Selector { return Prefix(netip.PrefixFrom(netip.IPv4Unspecified(), 0)) }

// Any6 is all of IPv6.
func Any6() Selector { return Prefix(netip.PrefixFrom(netip.IPv6Unspecified(), 0)) }

// Any is everything.
func Any() Set { return Set{Any4(), Any6()} }

// Valid reports whether s can be a traffic selector: one family, in order (RFC 7296 §3.13.1).
func (s Selector) Valid() bool {
	return s.From.IsValid() && s.From == plain(s.From) && s.To == plain(s.To) && s.From.Is4() == s.To.Is4() &&
		s.From.Compare(s.To) <= 0 && (s.Ports.From <= s.Ports.To || s.Ports == Opaque)
}

// ContainsAddr reports whether a lies within s.
func (s Selector) ContainsAddr(a netip.Addr) bool {
	a = plain(a)
	return a.Is4() == s.From.Is4() && s.From.Compare(a) <= 0 && a.Compare(s.To) <= 0
}

func (s Selector) contains(proto uint8, port uint16, hidden bool, a netip.Addr) bool {
	if s.Proto != 0 && s.Proto != proto || !s.ContainsAddr(a) {
		return false
	}
	if hidden {
		return s.Ports == AnyPort || s.Ports == Opaque
	}
	return s.Ports.From <= port && port <= s.Ports.To
}

// ContainsAddr reports whether some selector of the set has a.
func (s Set) ContainsAddr(a netip.Addr) bool {
	for _, sel := range s {
		if sel.ContainsAddr(a) {
			return true
		}
	}
	return false
}

// ContainsLocal reports whether the local end of the flow is in the set.
func (s Set) ContainsLocal(f Flow) bool {
	for _, sel := range s {
		if sel.contains(f.Proto, f.LocalPort, f.NoPorts, f.Local) {
			return true
		}
	}
	return false
}

// ContainsRemote reports whether the remote end of the flow is in the set.
func (s Set) ContainsRemote(f Flow) bool {
	for _, sel := range s {
		if sel.contains(f.Proto, f.RemotePort, f.NoPorts, f.Remote) {
			return true
		}
	}
	return false
}

// Match reports whether the flow lies between local and remote: some selector on either side has its end, in any
// combination (RFC 7296 §2.9).
func Match(local, remote Set, f Flow) bool { return local.ContainsLocal(f) && remote.ContainsRemote(f) }

// Ends is the flow as one selector of each end, as an initiator puts them first (RFC 7296 §2.9).
func (f Flow) Ends() (local, remote Selector) {
	local, remote = Host(f.Local), Host(f.Remote)
	local.Proto, remote.Proto = f.Proto, f.Proto
	switch {
	case f.NoPorts:
		local.Ports, remote.Ports = Opaque, Opaque
	case f.LocalPort != 0 || f.RemotePort != 0 || hasPorts(f.Proto):
		local.Ports = PortRange{f.LocalPort, f.LocalPort}
		remote.Ports = PortRange{f.RemotePort, f.RemotePort}
	}
	return local, remote
}

func hasPorts(proto uint8) bool {
	switch proto {
	case ICMP, TCP, UDP, ICMPv6, SCTP:
		return true
	}
	return false
}

func plain(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

func unmappedBits(p netip.Prefix) int {
	if p.Addr().Is4In6() {
		return max(p.Bits()-96, 0)
	}
	return p.Bits()
}

// last is the highest address of a masked prefix.
func last(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < 8*len(b); i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}
