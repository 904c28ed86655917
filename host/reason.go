package host

import (
	"github.com/btns-ipsec/btns/dataplane/flow"
	"github.com/btns-ipsec/btns/ikev2"
	"github.com/btns-ipsec/btns/ikev2/chain"
	"github.com/btns-ipsec/btns/trust"
)

// Reason is the stable code of why something failed or was refused: programs may depend on it. Every one stands in
// [Reasons] with a sentence and a hint.
type Reason string

// What comes of an attempt to make SAs.
const (
	NoAnswer      Reason = "no-answer"
	NoFurther     Reason = "no-further-answer"
	PortClosed    Reason = "port-closed"
	NoProposal    Reason = "no-proposal"
	PeerError     Reason = "peer-error"
	PeerRejects   Reason = "peer-rejects-us"
	BadPeer       Reason = "bad-peer"
	NoRoute       Reason = "no-route"
	OwnAddress    Reason = "own-address"
	GivenUp       Reason = "given-up"
	ChildRefused  Reason = "child-refused"
	DeadPeer      Reason = "dead-peer"
	ChildLost     Reason = "child-lost"
	CannotProtect Reason = "cannot-protect" // for states that nobody has given a better one
)

// What this host says no to.
const (
	NotInPAD     Reason = "not-in-pad"
	WrongKey     Reason = "wrong-key"
	WrongAnswer  Reason = "wrong-peer"
	ChildOutside Reason = "child-outside-policy"
	Changed      Reason = "key-changed"
	UnknownKey   Reason = "key-unknown"
	KeyWaits     Reason = "key-waits"
	NoKey        Reason = "downgrade"
	RevokedKey   Reason = "key-revoked"
	OtherAddress Reason = "key-of-other-address"
	LessKnown    Reason = "assurance-lowered"
	StoreFull    Reason = "store-full"
	NotAccepted  Reason = "nothing-to-accept"
	NotDone      Reason = "not-done"
	Flood        Reason = "new-keys"
	Crowded      Reason = "too-many-peers"
	Evicted      Reason = "peers-evicted"
	Stopping     Reason = "stopping"
	Spared       Reason = "essential"
	Reconfigured Reason = "reload"

	SuccessorEarly   Reason = "successor-too-early"
	SuccessorRefused Reason = "successor-refused"
	StatementRefused Reason = "statement-refused"
	CompareAlone     Reason = "comparison-alone"
	CompareTwice     Reason = "comparison-twice"
	CompareBroken    Reason = "comparison-broken"
	StringsDiffer    Reason = "strings-differ"
	TooTalkative     Reason = "too-many-statements"

	// A peer asserts an identity that certificates have to prove; further codes are those of [certificateReason].
	NoCertificate Reason = "certificate-missing"
)

// What the machine cannot do; package engine reports these.
const (
	PlaneTrouble Reason = "plane"
	StoreTrouble Reason = "store"
)

// ikeReason and packetReason are the codes of what ikev2 and the planes count.
func ikeReason(r ikev2.Reason) Reason { return Reason("ike-" + r.String()) }

func packetReason(r flow.Reason) Reason { return Reason(r.String()) }

// certificateReason is the code of what is wrong with the certificates of a peer.
func certificateReason(f chain.Fault) Reason { return Reason("certificate-" + string(f)) }

// trustReason is the code of why what is recorded has changed.
func trustReason(w trust.Why) Reason { return Reason("trust-" + string(w)) }

// Meaning is what a reason is in words.
type Meaning struct {
	Reason Reason
	Text   string // a sentence
	Hint   string // what to do; empty where there is nothing to do
}

// Meaning returns what stands in the table about r, or only its code.
func (r Reason) Meaning() Meaning {
	for _, g := range groups {
		for _, m := range g.of {
			if m.Reason == r {
				return m
			}
		}
	}
	return Meaning{Reason: r}
}

// Known reports whether r stands in the table.
func (r Reason) Known() bool { return r.Meaning().Text != "" }

// Group is reasons that belong together.
type Group struct {
	Title string
	of    []Meaning
}

// All returns the reasons of the group.
func (g Group) All() []Meaning { return append([]Meaning(nil), g.of...) }

// Reasons returns all that there are, in groups.
func Reasons() []Group { return append([]Group(nil), groups[:]...) }
