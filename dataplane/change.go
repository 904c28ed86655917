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

func (AddSA) change()     {}
func (UseSA) change()     {}
func (RetireSA) change()  {}
func (RemoveSA) change()  {}
func (MoveSA) change()    {}
func (SetPrefix) change() {}
