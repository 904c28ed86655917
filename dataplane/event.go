package dataplane

import (
	"net/netip"

	"github.com/btns-ipsec/btns/dataplane/flow"
	"github.com/btns-ipsec/btns/selector"
)

// Event is something that a plane saw. The types in this file are all there are.
type Event interface{ event() }

// Datagram is an IKE message that arrived, without the non-ESP marker. Data belongs to the receiver of the event.
type Datagram struct {
	Local, Remote netip.AddrPort
	Data          []byte
}

// Acquire asks for protection: a packet went, or wants to go, to an address without an SA, or with none whose selectors
// have it. At most one per address and second comes from a plane.
type Acquire struct {
	Flow selector.Flow
	Held bool // the packet waits in the plane (flow.Hold)
}

// Carried says that the first authentic packet came in on a pair.
type Carried struct{ ID flow.PairID }

// Spent says that a byte or packet limit was reached; after Hard the plane has stopped using the pair.
type Spent struct {
	ID   flow.PairID
	Hard bool
}

// Moved says that an authentic, fresh ESP packet came from another address or port, of the same IP version, than the pair has.
type Moved struct {
	ID     flow.PairID
	Remote netip.AddrPort
}

// UnknownSPI says that ESP came for which there is no SA; rate-limited by the plane to one per remote and second.
type UnknownSPI struct {
	Local, Remote netip.AddrPort
	SPI           uint32
}

// Dropped counts packets dropped for one reason and remote since the last such event, at most one per second each.
type Dropped struct {
	Remote netip.Addr // invalid when unknown
	Reason flow.Reason
	Count  uint64
	Sample selector.Flow // of the first of them, as far as it could be read
}

// PortClosed says that an ICMP message came about an IKE datagram of ours: nothing listens on its port, or a filter on the
// way rejects it. Nobody has proven anything. At most one per remote and second comes from a plane.
type PortClosed struct{ Remote netip.Addr }

// AddressChanged says that the host's own addresses or routes changed: what depends on a local address is to be redone.
type AddressChanged struct{}

func (Datagram) event()       {}
func (Acquire) event()        {}
func (Carried) event()        {}
func (Spent) event()          {}
func (Moved) event()          {}
func (UnknownSPI) event()     {}
func (Dropped) event()        {}
func (PortClosed) event()     {}
func (AddressChanged) event() {}
