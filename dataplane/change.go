package dataplane

import (
	"net/netip"

	"github.com/btns-ipsec/btns/dataplane/flow"
)

// Change is one step of reconfiguration. The types in this file are all there are.
type Change interface{ change() }

// AddSA installs a pair: inbound at once, outbound too when Use is set.
type AddSA struct {
	Spec flow.Spec
	Use  bool
}

// UseSA makes a pair the one that outbound packets take; pairs with the same selectors stop sending.
type UseSA struct{ ID flow.PairID }

// RetireSA stops sending on a pair; it still receives.
type RetireSA struct{ ID flow.PairID }

// RemoveSA removes both halves. An unknown ID is no error.
type RemoveSA struct{ ID flow.PairID }

// MoveSA changes the peer's outer address of a pair (RFC 7296 §2.23).
type MoveSA struct {
	ID     flow.PairID
	Remote netip.AddrPort
}

// SetPrefix says what happens to traffic with a prefix; flow.Clear forgets it. Local is the source address to use
// towards it (invalid: the system chooses).
type SetPrefix struct {
	Prefix netip.Prefix
	State  flow.State
	Local  netip.Addr
}

// SetRules gives a plane the SPD, in order; it replaces all earlier rules. The first rule that matches a packet decides:
//
//   - flow.Pass: it travels in clear, both ways, with protected prefixes too, and is delivered when it comes in ESP.
//   - flow.Drop: it travels in no form, with any host. What no rule matches is dropped likewise.
//   - flow.Seal: the state of its prefix decides. With MustOut it is held or dropped, and an SA is asked for, where the
//     state would let it leave in clear; with MustIn it is dropped where the state would let it come in clear.
//
// What leaves in clear by a rule with a Tally counts under that number ([Plane.Cleared]). A number that a later change has
// goes on counting, others are forgotten.
//
// Selectors of SAs hold nothing that a rule keeps for other peers: that is the host's to see to. Without rules the states
// decide alone. IKE, ESP and neighbour discovery of the plane's own are subject to no rule.
type SetRules struct{ Rules []flow.Rule }

func (AddSA) change()     {}
func (UseSA) change()     {}
func (RetireSA) change()  {}
func (RemoveSA) change()  {}
func (MoveSA) change()    {}
func (SetPrefix) change() {}
func (SetRules) change()  {}
