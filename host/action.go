package host

import (
	"net/netip"
	"time"

	"github.com/btns-ipsec/btns/dataplane"
	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/ikev2"
	"github.com/btns-ipsec/btns/trust"
)

// Action is something to be done, in order. The types in this file are all there are.
type Action interface{ action() }

// Change goes to the plane.
type Change struct{ Change dataplane.Change }

// Send transmits an IKE message. Data belongs to the receiver of the action.
type Send struct {
	Local, Remote netip.AddrPort
	Data          []byte
}

// Keepalive transmits a NAT keepalive.
type Keepalive struct{ Local, Remote netip.AddrPort }

// Compute asks for Job.Run, on any goroutine, and then for [Computed].
type Compute struct{ Job ikev2.Job }

// Save and Erase change the pin store.
type (
	Save  struct{ Record trust.Record }
	Erase struct{ Record trust.Record }
)

// FindSource asks for the local address that packets to Remote leave from.
type FindSource struct{ Remote netip.Addr }

// ReadCounters asks for the counters of all pairs.
type ReadCounters struct{}

// Stopped says that [Stop] is done. It may come again.
type Stopped struct{}

// Report is an event for people and programs: log, `btns watch`. It holds no secret.
type Report struct {
	Time   time.Time
	Kind   Kind
	Level  Level
	Remote netip.Addr           // invalid: the host itself
	Key    identity.Fingerprint // zero: none
	Text   string               // what happened and why, in plain words
	Hint   string               // what to do, possibly a command; may be empty
	Reason Reason               // a stable code, to count by and to look up; empty where nothing failed
}

// Level is how much a report matters.
type Level uint8

const (
	Debug Level = iota
	Info
	Warn
	Alarm // a possible attack: somebody should look
)

// Kind is the stable name of a report.
type Kind string

const (
	Protected      Kind = "protected"       // traffic with a peer is protected
	Unprotected    Kind = "unprotected"     // it no longer is, on purpose
	FirstContact   Kind = "first-contact"   // a key was recorded
	KeyChanged     Kind = "key-changed"     // a recorded peer came with another key: refused
	PeerRefused    Kind = "peer-refused"    // a peer was refused for another reason
	ProbeFailed    Kind = "probe-failed"    // an unknown address does not speak btns
	Rekeyed        Kind = "rekeyed"         // new keys, same peer
	Outage         Kind = "outage"          // a peer that must be protected cannot be reached
	PacketsDropped Kind = "packets-dropped" // counted by reason
	IKENotice      Kind = "ike"             // something that IKE noticed
	PeerLeft       Kind = "peer-left"       // the peer stopped in good order
	KeyLowered     Kind = "key-lowered"     // less is known of a key than was
	KeyRaised      Kind = "key-raised"      // more is
	KeyReplaced    Kind = "key-replaced"    // one key took the place of another
	KeyRotated     Kind = "key-rotated"     // a key named successors, or one came into use
	KeyRevoked     Kind = "key-revoked"     // a key was withdrawn
	KeyShared      Kind = "key-shared"      // an address with many keys, or a key with many addresses
	KeyCompared    Kind = "key-compared"    // two people compare, or have compared, the short string of a session
	OwnKey         Kind = "own-key"         // the key of this host itself
	KeyCloned      Kind = "key-cloned"      // two machines have the same key
	ConflictOver   Kind = "conflict-over"   // the recorded key is back after another one was refused
	NetworkChanged Kind = "network"         // this host is in another network, and what follows from that
	Operator       Kind = "operator"        // done on command
)

func (Change) action()       {}
func (Send) action()         {}
func (Keepalive) action()    {}
func (Compute) action()      {}
func (Save) action()         {}
func (Erase) action()        {}
func (FindSource) action()   {}
func (ReadCounters) action() {}
func (Stopped) action()      {}
func (Report) action()       {}
