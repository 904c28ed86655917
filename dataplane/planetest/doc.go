// Package planetest holds every plane to the contract of package dataplane.
//
// [Run] puts a plane through scenes that cite what they prove; a plane of any kind joins by a [Harness], which stands for
// the applications on its host and for the network around it. [Memory] is the reference: the rules of package flow in
// memory, without sockets or devices, for the tests of what drives a plane. [Broken] are planes with one fault each, and
// the tests of this package show that the scenes find every one of them.
package planetest

import (
	"net/netip"

	"github.com/btns-ipsec/btns/dataplane"
)

// Kind is what a packet on the network is.
type Kind uint8

// The kinds of packets on the network.
const (
	Clear     Kind = iota + 1 // an IP packet outside of ESP
	ESP                       // from SPI to ICV, in UDP where the ends have ports
	IKE                       // a message without the marker
	Keepalive                 // RFC 3948 §2.3
)

// Wired is a packet on the network.
type Wired struct {
	Kind     Kind
	From, To netip.AddrPort
	TOS      uint8 // of the outer header, with ESP
	Data     []byte
}

// Seen is what came out of a plane.
type Seen struct {
	Wire      []Wired  // to the network
	Delivered [][]byte // IP packets to applications on the host
	Events    []dataplane.Event
}

// Harness is a plane on a host with applications and a network, of which the test plays the peer. The path to the peer has
// an MTU of 1500.
type Harness interface {
	Plane() dataplane.Plane
	// Ends are the addresses of the host and of the peer in one family.
	Ends(v6 bool) (local, remote netip.Addr)
	// FromApp is an IP packet that an application on the host sends. FromNet is a packet that arrives from the network.
	FromApp(pkt []byte)
	FromNet(w Wired)
	// Seen is everything since the last call, once the plane has dealt with all that went before.
	Seen() Seen
}
