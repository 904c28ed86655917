package host

import (
	"net/netip"

	"github.com/btns-ipsec/btns/dataplane"
	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/ikev2"
	"github.com/btns-ipsec/btns/trust"
)

// Event is something that happened. The types in this file are all there are, and [Surroundings].
type Event interface{ event() }

// FromPlane is an event of the data plane, IKE datagrams included.
type FromPlane struct{ Event dataplane.Event }

// Computed brings back a job of [Compute] after its Run.
type Computed struct{ Job ikev2.Job }

// Tick says only that time has passed; see [Host.Deadline].
type Tick struct{}

// SourceFound answers [FindSource].
type SourceFound struct {
	Remote netip.Addr
	Local  netip.Addr // invalid when Err is set
	Err    error
}

// CountersRead answers [ReadCounters]. Counters, in which pairs without traffic may be missing, stays as it is until the next one.
type CountersRead struct{ Counters []dataplane.Counters }

// Connect asks for protection towards an address, as a packet would. Name is what the user asked for, when that was a name:
// the key that is recorded for it comes before what is recorded for the address (BTNS-TRUST-13).
type Connect struct {
	Remote netip.Addr
	Name   string
}

// ClearedRead says what the plane has let leave in clear, for the next [Host.Status].
type ClearedRead struct{ Cleared []dataplane.Cleared }

// Down deletes all SAs with a peer.
type Down struct{ Remote netip.Addr }

// Forget removes what is recorded of an address or of a key, and with it the duty to protect.
type Forget struct {
	Addr netip.Addr           // when valid
	Name string               // what the user named the address by; may be empty
	Key  identity.Fingerprint // without an address
}

// Accept records another key for an address, after it was refused. A zero Key takes the one refused last.
type Accept struct {
	Addr   netip.Addr
	Key    identity.Fingerprint
	Name   string // what the user named the address by; may be empty
	Beside bool   // the other keys of the address stay: a load balancer with several machines behind it
}

// Verify says that an operator compared the key of an address, or with an invalid Addr a key wherever it comes from.
type Verify struct {
	Addr netip.Addr
	Name string // what the user named the address by; may be empty
	Key  identity.Fingerprint
}

// Revoke withdraws a key: it is refused whatever else speaks for it.
type Revoke struct{ Key identity.Fingerprint }

// RevokeSelf takes the statement by which a key ends itself, however it came here (BTNS-TRUST-44).
type RevokeSelf struct{ Statement trust.Revocation }

// Import takes in a text of known peers, as trust.ParseKnown reads it, on an operator's word.
type Import struct{ Entries []trust.Entry }

// Stop ends everything in good order: peers are told. [Stopped] comes when nothing is left to wait for.
type Stop struct{}

func (FromPlane) event()    {}
func (Computed) event()     {}
func (Tick) event()         {}
func (Surroundings) event() {}
func (SourceFound) event()  {}
func (CountersRead) event() {}
func (ClearedRead) event()  {}
func (Connect) event()      {}
func (Down) event()         {}
func (Forget) event()       {}
func (Accept) event()       {}
func (Verify) event()       {}
func (Revoke) event()       {}
func (RevokeSelf) event()   {}
func (Import) event()       {}
func (Stop) event()         {}
