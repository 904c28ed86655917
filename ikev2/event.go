package ikev2

import (
	"net/netip"

	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/ikev2/chain"
	"github.com/btns-ipsec/btns/protect"
	"github.com/btns-ipsec/btns/selector"
)

// Handle names an IKE SA inside this process; it is never on the wire. A rekeyed IKE SA keeps its handle.
type Handle uint64

// ChildID names a child SA pair inside this process; a rekeyed child gets a new one. Zero is none.
type ChildID uint64

// Event is something that happened. The types in this file are all there are.
type Event interface{ event() }

// Datagram is an IKE message that arrived, without the non-ESP marker. The endpoint does not keep Data.
type Datagram struct {
	Local, Remote netip.AddrPort // Local.Port() is 500 or 4500
	Data          []byte
}

// Tick says only that time has passed; see [Endpoint.Deadline].
type Tick struct{}

// Initiate asks for a new IKE SA. SA comes from [Endpoint.NewHandle].
type Initiate struct {
	SA            Handle
	Local, Remote netip.AddrPort // ports 500, or 4500 to begin there
	Credential    Local          // how we authenticate
	Expect        Remote         // what the peer must show; answers FindCredential beforehand when not empty. ID alone is asked for (IDr)
	Anchors       *chain.Anchors // authorities whose certificates are asked for (RFC 7296 §3.7); nil: any
	Child         *ChildRequest  // nil: childless (RFC 6023)
	// InitialContact sends N(INITIAL_CONTACT): the host has no other SA with the expected key.
	InitialContact bool
	// Encap asks the peer for UDP encapsulation whatever the path (userspace planes).
	Encap bool
	// Quick ends the attempt after so many datagrams without any answer, and offers no key exchange with long values
	// (polite probing); 0 is the usual schedule and offer.
	Quick int
	// Override replaces parts of the endpoint's configuration for this IKE SA; nil: none.
	Override *Override
}

// ChildRequest describes a child SA that this side asks for.
type ChildRequest struct {
	ID       ChildID // from Endpoint.NewChild
	SPI      uint32  // ours, inbound
	Local    selector.Set
	Remote   selector.Set
	Mode     protect.Mode
	Strict   bool            // Transport was asked for and tunnel will not do
	Offer    []protect.Suite // in order of preference; ESN true offers both
	KE       []uint16        // key exchange methods for forward secrecy in CREATE_CHILD_SA, in order; nil: none
	Lifetime protect.Lifetime
}

// CreateChild asks for one more child under an established IKE SA.
type CreateChild struct {
	SA    Handle
	Child ChildRequest
}

// RekeyChild, RekeySA, DeleteChild and DeleteSA ask for what they say. Hard limits are the caller's to enforce.
type (
	RekeyChild  struct{ Child ChildID }
	RekeySA     struct{ SA Handle }
	DeleteChild struct{ Child ChildID }
	DeleteSA    struct {
		SA Handle
		// Silent forgets the SA without telling the peer: it is known to be gone, or must not learn of us.
		Silent bool
		// Leaving tells a btns peer, before the delete, that this host stops on purpose.
		Leaving bool
		// Revocation, to a btns peer, is a [Statement] of that kind that goes with the delete; nil: none.
		Revocation []byte
	}
	// Tell makes a statement to the peer, if both ends are btns and the peer has a key. [Told] says that it has it; when the
	// IKE SA ends first, or cannot carry it, nothing comes.
	Tell struct {
		SA   Handle
		Kind Statement
		Data []byte
	}
	// CheckAlive starts a liveness check (RFC 7296 §2.4), unless one is running.
	CheckAlive struct{ SA Handle }
	// Unanswered says that ESP went out and none came back: the peer is checked, and the IKE SA given up sooner
	// ([Config].Suspect), whichever request waits for an answer, unless the peer is heard meanwhile.
	Unanswered struct{ SA Handle }
	// Alive says that an authentic ESP packet came from the peer: as good as a protected IKE message.
	Alive struct{ SA Handle }
	// ChildCarried says that the first authentic packet arrived on the inbound SA of Child.
	ChildCarried struct{ Child ChildID }
	// Moved says that authentic ESP came from a new address and port of a peer behind a NAT (RFC 7296 §2.23).
	Moved struct {
		SA     Handle
		Remote netip.AddrPort
	}
)

// Local is how this side authenticates itself.
type Local struct {
	ID     identity.ID
	Method Method
	Key    identity.Signer // for Signature
	PSK    []byte          // for SharedKey
	// Fallback signs for peers that cannot verify Key (RFC 8420 §2); zero: none.
	Fallback identity.Signer
	// SendKey adds CERT payloads of encoding 15 (raw public key) (BTNS-CORE-30).
	SendKey bool
	// Certificate is a DER X.509 certificate of Key for peers that want one; nil: none is sent. Above it go those that
	// issued it, and each other.
	Certificate []byte
	Above       [][]byte
}

// Method is a way to authenticate (RFC 7296 §3.8 in classes).
type Method uint8

const (
	Signature Method = iota + 1 // RFC 7427, or the older methods towards peers without it
	SharedKey                   // method 2
	Null                        // method 13 (RFC 7619)
)

// Remote is what a peer must show. Exactly one of the fields says how.
type Remote struct {
	Keys    []identity.PublicKey // configured keys: the peer signs with one of them, and sends it or does not
	Anchors *chain.Anchors       // the peer's certificates lead to one of them and name what it asserts
	AnyKey  bool                 // BTNS: whatever key the peer sends (BTNS-CORE-08)
	PSK     []byte
	AnyNull bool // accepts NULL authentication beside the others
	// ID, when its Type is not 0, must be the identity the peer asserts.
	ID identity.ID
}

// IsZero reports whether nothing was said.
func (r Remote) IsZero() bool {
	return len(r.Keys) == 0 && r.Anchors == nil && !r.AnyKey && r.PSK == nil && !r.AnyNull
}

// Credential answers [FindCredential]. Refuse non-nil ends the SA with AUTHENTICATION_FAILED.
type Credential struct {
	SA     Handle
	Local  Local // for a responder; ignored by an initiator, who said it in Initiate
	Remote Remote
	Refuse error
	// Override replaces parts of the endpoint's configuration for this IKE SA; nil: none.
	Override *Override
}

// PeerJudged answers [JudgePeer].
type PeerJudged struct {
	SA     Handle
	Refuse error
	// Known spares the peer the limit of how much it may ask for in a while.
	Known bool
}

// ChildJudged answers [JudgeChild].
type ChildJudged struct {
	SA     Handle
	Child  ChildID
	Refuse error // TS_UNACCEPTABLE goes out; the IKE SA stays
	// SPI, Offer, KE, Mode and Lifetime matter at the stages Asked and Propose.
	SPI           uint32
	Local, Remote selector.Set // narrowed
	Mode          protect.Mode
	Offer         []protect.Suite
	KE            []uint16
	Lifetime      protect.Lifetime
}

// Computed brings back a [Job] after its Run.
type Computed struct{ Job Job }

func (Datagram) event()     {}
func (Tick) event()         {}
func (Initiate) event()     {}
func (CreateChild) event()  {}
func (RekeyChild) event()   {}
func (RekeySA) event()      {}
func (DeleteChild) event()  {}
func (DeleteSA) event()     {}
func (CheckAlive) event()   {}
func (Unanswered) event()   {}
func (Alive) event()        {}
func (ChildCarried) event() {}
func (Moved) event()        {}
func (Credential) event()   {}
func (PeerJudged) event()   {}
func (ChildJudged) event()  {}
func (Tell) event()         {}
func (Computed) event()     {}
