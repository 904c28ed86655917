package host

import (
	"net/netip"
	"slices"
	"time"

	"github.com/btns-ipsec/btns/dataplane"
	"github.com/btns-ipsec/btns/dataplane/flow"
	"github.com/btns-ipsec/btns/ikev2"
	"github.com/btns-ipsec/btns/protect"
	"github.com/btns-ipsec/btns/sad"
)

const (
	lingering = 5 * time.Second // an inbound SA outlives its replacement by this (ikev2.md §7.4)
	// answerTime is how long packets wait for an SA that the peer learns of by an answer of ours: until the answer has come and
	// was worked on, the peer cannot open what it protects. A packet of the peer under the SA says so sooner.
	answerTime  = 200 * time.Millisecond
	upgradeTime = 2 * time.Second // clear packets of a peer that has just become protected (design.md)
)

func (h *Host) childUp(now time.Time, a ikev2.ChildUp) {
	s := h.sessions[a.SA]
	if s == nil || s.peer == nil {
		return
	}
	p := s.peer
	h.settle(s, a.Child, true)
	pair := h.sas.Add(sad.Pair{
		ID: uint64(a.Child), Owner: uint64(a.SA), Peer: p.addr, Suite: a.Suite, Mode: a.Mode,
		SPIIn: a.SPIIn, SPIOut: a.SPIOut, Local: a.Local, Remote: a.Remote, Encap: encapsulated(a.NAT), Since: int64(h.moment(now)),
	})
	sp := spec(a)
	sp.Marks = h.marks(s, a)
	h.change(dataplane.AddSA{Spec: sp})
	switch {
	case a.UseNow && !a.Initiator && a.Replaces == 0:
		pair.Announced = true
		h.alarms.add(now.Add(answerTime), useAnnounced, p.addr, flow.PairID(pair.ID))
	case a.UseNow:
		h.use(pair)
	}
	if a.Replaces != 0 {
		h.report(now, Report{Kind: Rekeyed, Level: Debug, Remote: p.addr, Key: s.who.Key.Fingerprint(), Text: "new keys for the traffic with this peer"})
		return
	}
	was := p.state
	p.fresh()
	h.enter(now, p, StateProtected, "", "")
	if p.installed == flow.Upgrade && !s.nat.Peer {
		h.alarms.add(now.Add(upgradeTime), endUpgrade, p.addr, 0)
	}
	if was != StateProtected {
		h.report(now, Report{
			Kind: Protected, Level: Info, Remote: p.addr, Key: s.who.Key.Fingerprint(),
			Text: "traffic is protected: " + a.Suite.String() + ", " + a.Mode.String() + " mode, assurance " + s.assurance.String(),
		})
	}
	h.readAt(now.Add(countersSoon))
}

// announced lets a pair send that this host has answered with: the peer has it, or had the time to get it.
func (h *Host) announced(now time.Time, pair *sad.Pair) {
	pair.Announced = false
	h.use(pair)
	if s := h.sessions[ikev2.Handle(pair.Owner)]; s != nil && s.peer != nil && s.peer.state == StateProtected {
		h.enter(now, s.peer, StateProtected, s.peer.trouble().why, s.peer.trouble().hint)
	}
}

// announces reports whether a pair with p will send soon.
func (h *Host) announces(p *peer) bool {
	return slices.ContainsFunc(h.sas.With(p.addr), func(pair *sad.Pair) bool { return pair.Announced })
}

func encapsulated(n ikev2.NAT) bool { return n.Us || n.Peer || n.Encap }

func spec(a ikev2.ChildUp) flow.Spec {
	limits := func(l protect.Limits) protect.Limits { return protect.Limits{Bytes: l.Bytes, Packets: l.Packets} }
	return flow.Spec{
		ID: flow.PairID(a.Child), Suite: a.Suite, Mode: a.Mode,
		SPIIn: a.SPIIn, SPIOut: a.SPIOut, KeysIn: a.KeysIn, KeysOut: a.KeysOut,
		Local: a.Local, Remote: a.Remote, OuterLocal: a.OuterLocal, OuterRemote: a.OuterRemote, Encap: encapsulated(a.NAT),
		SawLocal: a.SawLocal, SawRemote: a.SawRemote, PeerMoves: a.NAT.Peer && !a.NAT.Us,
		Soft: limits(a.Lifetime.Soft), Hard: limits(a.Lifetime.Hard),
	}
}

// use lets pair send, in the database and in the plane.
func (h *Host) use(pair *sad.Pair) {
	h.sas.Use(pair)
	h.change(dataplane.UseSA{ID: flow.PairID(pair.ID)})
}

func (h *Host) childDown(now time.Time, a ikev2.ChildDown) {
	pair := h.sas.Get(uint64(a.Child))
	if pair == nil {
		return
	}
	if a.Linger {
		h.change(dataplane.RetireSA{ID: flow.PairID(a.Child)})
		h.alarms.add(now.Add(lingering), dropLingered, pair.Peer, flow.PairID(a.Child))
	} else {
		h.change(dataplane.RemoveSA{ID: flow.PairID(a.Child)})
	}
	h.sas.Remove(pair.ID)
	h.standIn(pair)
	p := h.peerOfPair(a.SA, pair.Peer)
	if p == nil || h.sends(p) {
		return
	}
	if s := h.sessions[a.SA]; s != nil && s.up && p.state == StateProtected && a.Err != nil {
		h.report(now, Report{Kind: Unprotected, Level: Warn, Remote: p.addr, Text: "the last SA for this traffic is gone: " + a.Err.Error(), Reason: ChildLost})
	}
	if p.state == StateProtected && len(p.sessions) > 0 {
		// The IKE SA lives and has no child: nothing may leave in clear until the next packet makes one.
		h.enter(now, p, StateNegotiating, "the IKE SA has no child SA; the next packet makes one", "")
	}
}

// standIn lets another pair send in the place of one that is gone.
func (h *Host) standIn(gone *sad.Pair) {
	if !gone.Sending {
		return
	}
	with := h.sas.With(gone.Peer)
	for i := len(with) - 1; i >= 0; i-- {
		if with[i].Remote.Overlaps(gone.Remote) && with[i].Local.Overlaps(gone.Local) {
			if !with[i].Sending {
				h.use(with[i])
			}
			return
		}
	}
}

// sends reports whether any SA with p sends.
func (h *Host) sends(p *peer) bool {
	for _, pair := range h.sas.With(p.addr) {
		if pair.Sending {
			return true
		}
	}
	return false
}

func (h *Host) peerOfPair(sa ikev2.Handle, addr netip.Addr) *peer {
	if s := h.sessions[sa]; s != nil && s.peer != nil {
		return s.peer
	}
	return h.peers[addr]
}

func (h *Host) childFailed(now time.Time, a ikev2.ChildFailed) {
	s := h.sessions[a.SA]
	if s == nil {
		return
	}
	h.settle(s, a.Child, false)
	p := s.peer
	if p == nil {
		return
	}
	p.failed(now)
	if h.sends(p) {
		return
	}
	why := "the peer is there, but refused an SA for this traffic: " + outcomeOf(a.Err, false).why
	state := StateClear
	if h.required(now, p) {
		state = StateRefused
	}
	h.report(now, Report{Kind: PeerRefused, Level: Warn, Remote: p.addr, Key: s.who.Key.Fingerprint(), Text: why, Reason: ChildRefused})
	h.enterFor(now, p, state, ChildRefused, why, "")
}
