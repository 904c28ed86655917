package ikev2

import (
	"net/netip"

	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/ikev2/chain"
	"github.com/btns-ipsec/btns/protect"
	"github.com/btns-ipsec/btns/selector"
)

// Action is something to be done. The types in this file are all there are.
type Action interface{ action() }

// Send transmits an IKE message. Data belongs to the receiver of the action. From or to port 4500 the sender puts the
// non-ESP marker in front (RFC 3948 §2.2).
type Send struct {
	Local, Remote netip.AddrPort
	Data          []byte
}

// Keepalive transmits one octet 0xFF that keeps a NAT's mapping alive (RFC 3948 §2.3).
type Keepalive struct{ Local, Remote netip.AddrPort }

// Job is public-key work. Run may be called on any goroutine, once; it touches nothing but the job.
type Job interface{ Run() }

// Compute asks for Job.Run and the event [Computed].
type Compute struct{ Job Job }

// FindCredential asks which credential belongs to what the peer asserts. Nothing is verified yet. Key is what a CERT
// payload held (encoding 15, 11 or 4 in this order, BTNS-CORE-32), zero without one.
type FindCredential struct {
	SA            Handle
	Initiator     bool // we are the initiator; the answer's Local is not used
	Local, Remote netip.AddrPort
	ID            identity.ID // the peer's
	Wanted        identity.ID // IDr of an initiator's request; zero without one
	Method        Method
	Key           identity.PublicKey
	Certificates  [][]byte // X.509, in DER and in the order of the message; Key is that of the first
}

// Peer is a peer that has authenticated.
type Peer struct {
	ID     identity.ID // asserted; proven only for SharedKey, with a key configured for it, or by certificates
	Method Method
	Key    identity.PublicKey // zero for SharedKey and Null
	Proven *chain.Verified    // what its certificates have proven; nil unless they were asked for. Not to be changed
}

// JudgePeer asks whether this verified peer may be here (PAD and trust).
type JudgePeer struct {
	SA             Handle
	Initiator      bool
	Local, Remote  netip.AddrPort
	Peer           Peer
	NAT            NAT
	InitialContact bool // the peer says that it has no other SA with us
}

// NAT is what NAT detection saw (RFC 7296 §2.23). Encap without Us and Peer is a wish of either side.
type NAT struct{ Us, Peer, Encap bool }

// Stage is where in a negotiation a child is judged.
type Stage uint8

const (
	// Asked: the peer asks for a child (new or rekey). The answer narrows Local and Remote and supplies the SPI.
	Asked Stage = iota + 1
	// Propose: we are about to rekey; the answer supplies SPI, selectors and offer.
	Propose
	// Answered: the peer answered our request; the answer confirms the selectors or refuses.
	Answered
)

// JudgeChild asks which selectors a child may have (BTNS-CORE-13: for every child and every rekey, in both roles).
type JudgeChild struct {
	SA            Handle
	Child         ChildID
	Stage         Stage
	Rekeys        ChildID      // 0: a new child
	Local, Remote selector.Set // after NAT substitution (RFC 7296 §2.23.1), Local is our side
	Mode          protect.Mode // asked for, or answered
	Peer          Peer
	NAT           NAT
	LocalAddr     netip.Addr
	RemoteAddr    netip.Addr // observed when the peer was authenticated
}

// SAUp says that an IKE SA is authenticated on both sides.
type SAUp struct {
	SA             Handle
	Initiator      bool
	Local, Remote  netip.AddrPort
	Peer           Peer
	NAT            NAT
	InitialContact bool   // received and to be honoured by the host (BTNS-CORE-14)
	Nonce          []byte // the lower of Ni and Nr: settles crossing first contacts (ikev2.md §7.3)
	Btns           bool   // the peer is btns (vendor ID)
	Suite          string // negotiated IKE algorithms, in words
	// Binding names the IKE SA, on both ends alike (channel-binding.md §4), however often it is rekeyed.
	Binding identity.Binding
	Own     identity.PublicKey // that we signed with; zero: we did not sign
	// Instance is which machine the peer says it is; zero: it does not say.
	Instance Instance
}

// SARekeyed says that SA goes on under new keys.
type SARekeyed struct{ SA Handle }

// SADown says that an IKE SA is gone. [ChildDown] of each of its children has come before. For an attempt that never came up Err says why:
// [*NoAnswerError], [*RefusedError], [*ProtocolError], or what a judge returned.
type SADown struct {
	SA     Handle
	Remote netip.AddrPort
	WasUp  bool
	Err    error // nil: deleted on purpose, by either side
	Peer   bool  // the peer deleted it
}

// ChildUp installs a pair of SAs: inbound at once. Outbound at once when UseNow, else on ChildUse.
type ChildUp struct {
	SA        Handle
	Child     ChildID
	Replaces  ChildID
	Initiator bool // of the exchange that made it
	UseNow    bool
	Suite     protect.Suite
	Mode      protect.Mode
	SPIIn     uint32
	SPIOut    uint32
	KeysIn    protect.Keys
	KeysOut   protect.Keys
	// Local and Remote are the selectors to check packets against.
	Local, Remote selector.Set
	// SawLocal and SawRemote are the peer's view of the two addresses, for checksum repair in transport mode through a
	// NAT (RFC 7296 §2.23.1); invalid when there is nothing to repair.
	SawLocal, SawRemote netip.Addr
	OuterLocal          netip.AddrPort
	OuterRemote         netip.AddrPort
	NAT                 NAT
	Lifetime            protect.Lifetime
}

// ChildUse switches outbound traffic to Child.
type ChildUse struct{ Child ChildID }

// ChildDown removes a pair. Linger keeps the inbound half a few seconds for packets in flight.
type ChildDown struct {
	SA     Handle
	Child  ChildID
	Linger bool
	Err    error // nil: deleted or replaced on purpose
}

// ChildFailed says that a child will not come, one asked for with Initiate or CreateChild, or one for which a judge gave an
// SPI; the IKE SA stays. What ends with its IKE SA is not reported by itself.
type ChildFailed struct {
	SA    Handle
	Child ChildID
	Err   error
}

// SAMoved says that the peer gets packets at another address (NAT remapping). Nobody has verified that it is its.
type SAMoved struct {
	SA     Handle
	Remote netip.AddrPort
}

// PeerLeaving says that the peer announced that it stops on purpose.
type PeerLeaving struct{ SA Handle }

// Stated is a statement of the peer. It comes from the holder of [Peer].Key; what stands in it is for its reader to check.
type Stated struct {
	SA   Handle
	Kind Statement
	Data []byte
}

// Told says that the peer has the last statement of that kind that [Tell] made.
type Told struct {
	SA   Handle
	Kind Statement
}

// Proven says that the peer answered a liveness check: it holds this SA now.
type Proven struct{ SA Handle }

// Heard says that a datagram of an authenticated or plausible IKE message came from an address: it speaks IKE.
type Heard struct{ Remote netip.AddrPort }

// Notice is something for the operator. Text is for people and holds no secret; peers' octets in it are escaped.
type Notice struct {
	SA     Handle // 0: none
	Remote netip.AddrPort
	Reason Reason
	Text   string
}

func (Send) action()           {}
func (Keepalive) action()      {}
func (Compute) action()        {}
func (FindCredential) action() {}
func (JudgePeer) action()      {}
func (JudgeChild) action()     {}
func (SAUp) action()           {}
func (SARekeyed) action()      {}
func (SADown) action()         {}
func (ChildUp) action()        {}
func (ChildUse) action()       {}
func (ChildDown) action()      {}
func (ChildFailed) action()    {}
func (SAMoved) action()        {}
func (PeerLeaving) action()    {}
func (Stated) action()         {}
func (Told) action()           {}
func (Proven) action()         {}
func (Heard) action()          {}
func (Notice) action()         {}
