package ikev2

import (
	"net/netip"
	"slices"
	"time"
)

// View is an IKE SA as people want to see it.
type View struct {
	SA            Handle
	Initiator     bool // the original initiator of the IKE SA in use
	State         string
	SPIi, SPIr    uint64
	Local, Remote netip.AddrPort
	Suite         string
	Peer          Peer
	NAT           NAT
	Btns          bool
	Made          time.Time // of the IKE SA in use
	Heard         time.Time // last sign of life
	NextOwn       uint32    // message ID of our next request
	NextPeer      uint32    // message ID of the peer's next request
	Rekeys        uint32
	Children      []ChildID
}

var phaseNames = map[phase]string{
	initSending: "IKE_SA_INIT sent", midSending: "IKE_INTERMEDIATE sent", authSending: "IKE_AUTH sent",
	peerChecking: "checking the peer", initAnswering: "answering IKE_SA_INIT", halfOpen: "half-open",
	authAnswering: "answering IKE_AUTH", rejected: "rejected", established: "established", leaving: "leaving",
}

// View returns one IKE SA.
func (e *Endpoint) View(h Handle) (View, bool) {
	n := e.sessions[h]
	if n == nil {
		return View{}, false
	}
	s := n.current
	v := View{
		SA: h, Initiator: s.initiator, State: phaseNames[s.state.phase()], SPIi: s.spii, SPIr: s.spir,
		Local: s.local, Remote: s.remote, Peer: n.peer, NAT: n.nat, Btns: n.btns,
		Made: e.epoch.Add(time.Duration(s.made)), Heard: e.epoch.Add(time.Duration(n.heard)),
		NextOwn: s.nextOwn, NextPeer: s.nextPeer, Rekeys: n.rekeys,
	}
	if s.suite != nil {
		v.Suite = s.suite.String()
	}
	for _, c := range n.children {
		v.Children = append(v.Children, c.id)
	}
	return v, true
}

// Views returns all IKE SAs, half-open ones included, oldest first.
func (e *Endpoint) Views() []View {
	out := make([]View, 0, len(e.sessions))
	for h := range e.sessions {
		v, _ := e.View(h)
		out = append(out, v)
	}
	slices.SortFunc(out, func(a, b View) int {
		if a.SA < b.SA {
			return -1
		}
		return 1
	})
	return out
}
