package host

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/btns-ipsec/btns/dataplane/flow"
	"github.com/btns-ipsec/btns/ikev2"
)

// farewell is how long Stop waits for peers to answer.
const farewell = 2 * time.Second

func (h *Host) down(now time.Time, addr netip.Addr) {
	p := h.peerFor(addr)
	if p == nil || len(p.sessions) == 0 && p.attempt == 0 {
		h.report(now, Report{Kind: Operator, Level: Info, Remote: addr, Text: "there are no SAs with this peer"})
		return
	}
	if p.attempt != 0 {
		h.ike(now, ikev2.DeleteSA{SA: p.attempt, Silent: true})
	}
	for _, s := range append([]*session(nil), p.sessions...) {
		h.ike(now, ikev2.DeleteSA{SA: s.handle})
	}
	h.report(now, Report{Kind: Operator, Level: Info, Remote: addr, Text: "SAs deleted on command"})
}

func (h *Host) stop(now time.Time) {
	if h.stopping {
		return
	}
	h.stopping = true
	for _, s := range h.sortedSessions() {
		h.ike(now, ikev2.DeleteSA{SA: s.handle, Silent: !s.up, Leaving: s.btns})
	}
	h.alarms.add(now.Add(farewell), stopNow, netip.Addr{}, 0)
	h.farewellDone()
}

// farewellDone says that Stop is done as soon as no peer is left to answer.
func (h *Host) farewellDone() {
	if h.stopping && len(h.sessions) == 0 {
		h.out = append(h.out, Stopped{})
	}
}

// sortedPeers and sortedSessions give an order that does not depend on the map, so that a seed has one trace.
func (h *Host) sortedPeers() []*peer {
	list := make([]*peer, 0, len(h.peers))
	for _, p := range h.peers {
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b *peer) int { return a.addr.Compare(b.addr) })
	return list
}

func (h *Host) sortedSessions() []*session {
	list := make([]*session, 0, len(h.sessions))
	for _, s := range h.sessions {
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b *session) int {
		if a.handle < b.handle {
			return -1
		}
		return 1
	})
	return list
}

func plural(n uint64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// freed lets the traffic of an address go in clear again when nothing requires protection any more.
func (h *Host) freed(now time.Time, addr netip.Addr, why string) {
	p := h.peers[addr]
	if p == nil || len(p.sessions) > 0 || h.required(now, p) {
		return
	}
	if p.attempt != 0 {
		h.ike(now, ikev2.DeleteSA{SA: p.attempt, Silent: true})
		p.attempt = 0
	}
	p.fresh()
	if p.installed != flow.Clear || p.state != StateClear {
		h.enter(now, p, StateClear, why, "")
	}
	h.forgetIdle(now, p)
}
