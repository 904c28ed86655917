package dataplane

import (
	"net/netip"
	"time"

	"github.com/btns-ipsec/btns/dataplane/flow"
)

// Plane carries packets. All methods may be called from one goroutine at a time; events arrive through the function
// given when the plane was made, on goroutines of the plane, in the order in which they happened per source. That
// function does not block.
type Plane interface {
	// Apply carries out changes in order. A change that cannot be made ends it: those before it are in force, those behind
	// it are not, and the error is a [*ChangeError]. Any other error is about the host, and all changes are made.
	Apply(changes []Change) error
	// Send transmits one IKE message and adds the non-ESP marker where a port is 4500. b is not kept.
	Send(local, remote netip.AddrPort, b []byte) error
	// Keepalive sends a NAT keepalive (RFC 3948 §4).
	Keepalive(local, remote netip.AddrPort) error
	// Counters appends those of all pairs under which packets came or went to buf; others may be left out.
	Counters(buf []Counters) []Counters
	// Cleared appends what has left in clear by the rules of each Tally.
	Cleared(buf []Cleared) []Cleared
	// Source is the local address that packets to remote leave from.
	Source(remote netip.Addr) (netip.Addr, error)
	// Info describes the plane for people.
	Info() Info
	// Close removes everything that the plane changed on the host.
	Close() error
}

// Counters of one pair. Octets are those of protected payload.
type Counters struct {
	ID                    flow.PairID
	PacketsIn, PacketsOut uint64
	BytesIn, BytesOut     uint64
	LastIn, LastOut       time.Time // to about a second; zero: never
	Drops                 uint64    // inbound, after the SPI was found
}

// Cleared is what this host has sent in clear by the rules of one Tally. Octets are those of IP packets, as the host hands
// them to the interface. What stays on the host, what the link itself lives on (neighbour discovery, DHCP), IKE and ESP count
// nowhere, nor does what the host forwards for others.
type Cleared struct {
	Tally          uint32
	Packets, Bytes uint64
}

// Info describes a plane.
type Info struct {
	Name     string   // "tun"
	Device   string   // "btns0"
	MTU      int      // inner, for the default path
	Problems []string // what does not work as it should, in sentences
}
