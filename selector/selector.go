package selector

import "net/netip"

// Selector is one range of addresses, ports and protocols of one end of a flow. Addresses are of one family.
// OPAQUE ports (hidden by fragmentation) are From 65535, To 0.
type Selector struct {
	Proto uint8 // next-layer protocol; 0 is any
	Ports PortRange
	From  netip.Addr
	To    netip.Addr // inclusive
}

// PortRange is inclusive. For ICMP a port is type<<8 | code (RFC 7296 §3.13.1).
type PortRange struct{ From, To uint16 }

// AnyPort is every port.
var AnyPort = PortRange{0, 65535}

// Set is a union of selectors. The order matters only on the wire: the first may be the packet that asked
// (RFC 7296 §2.9).
type Set []Selector

// Flow is what selectors look at in one packet, as the local host sees it.
type Flow struct {
	Proto      uint8
	LocalPort  uint16
	RemotePort uint16
	NoPorts    bool // a non-first fragment: ports are OPAQUE
	Local      netip.Addr
	Remote     netip.Addr
}
