package host

import (
	"net/netip"
	"time"

	"github.com/btns-ipsec/btns/dataplane"
	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/probe"
	"github.com/btns-ipsec/btns/protect"
)

// PeerState is what becomes of the traffic with a peer.
type PeerState string

const (
	StateClear       PeerState = "clear"       // in clear, as policy allows
	StateProbing     PeerState = "probing"     // in clear, while it is found out whether the peer speaks btns
	StateNegotiating PeerState = "negotiating" // held until there are SAs
	StateProtected   PeerState = "protected"
	StateRefused     PeerState = "refused" // policy or trust says no: nothing flows
	StateOutage      PeerState = "outage"  // must be protected, and the peer does not answer
)

// PeerView is one peer as `btns peers` shows it.
type PeerView struct {
	Name      string // of the configured peer, or empty
	Addr      netip.Addr
	State     PeerState
	Key       identity.Fingerprint
	ID        identity.ID
	Method    string // "signature", "shared-key", "null"
	Assurance identity.Assurance
	Since     time.Time // of State
	FirstSeen time.Time // of the key; zero when not recorded
	IKE       string    // negotiated algorithms
	Initiator bool
	Btns      bool
	NAT       string // "", "us", "peer", "both"
	Children  []ChildView
	Why       string // for everything but protected: the reason, in plain words
	Reason    Reason // its code; empty where nothing failed
	Hint      string
}

// ChildView is one child SA pair.
type ChildView struct {
	SPIIn, SPIOut uint32
	Suite         protect.Suite
	Mode          protect.Mode
	Local, Remote string
	Encap         bool
	Since         time.Time
	Counters      dataplane.Counters
	Sending       bool
}

// StatusView is the host as `btns status` shows it.
type StatusView struct {
	Key                                        identity.Fingerprint
	Since                                      time.Time
	Protected, Probing, Clear, Refused, Outage int
	IKESAs, HalfOpen, Children, Pins, Promised int
	Drops                                      map[string]uint64 // by reason, IKE and packets
	Probes                                     probe.Stats
	Problems                                   []string
	// ClearBy is what this host has sent in clear, by entries of the SPD in their order; those without any are left out.
	ClearBy []ClearView
}

// ClearView is what this host has sent in clear by one entry of the SPD since it began, or since the entry is there.
type ClearView struct {
	Entry          string
	Source         string // where that is written; empty for built-in ones
	Packets, Bytes uint64
}
