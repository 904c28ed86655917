package host

import (
	"fmt"
	"time"

	"github.com/btns-ipsec/btns/dataplane"
	"github.com/btns-ipsec/btns/dataplane/flow"
	"github.com/btns-ipsec/btns/ikev2"
	"github.com/btns-ipsec/btns/policy"
	"github.com/btns-ipsec/btns/trust"
)

// Peers returns every peer that there is something to say about, by address.
func (h *Host) Peers(now time.Time) []PeerView {
	var list []PeerView
	counted := make(map[flow.PairID]dataplane.Counters, len(h.reading.list))
	for _, c := range h.reading.list {
		counted[c.ID] = c
	}
	for _, p := range h.sortedPeers() {
		if p.state == StateClear && p.cfg == nil && p.trouble().why == "" {
			continue
		}
		list = append(list, h.view(now, p, counted))
	}
	return list
}

func (h *Host) view(now time.Time, p *peer, counted map[flow.PairID]dataplane.Counters) PeerView {
	v := PeerView{Addr: p.addr, State: p.state, Since: h.time(p.since), Why: p.trouble().why, Hint: p.trouble().hint, Reason: p.failure()}
	if p.cfg != nil {
		v.Name = p.cfg.Name
	}
	if rs := h.book.Lookup(now, p.addr, h.around.Network); len(rs) > 0 {
		v.Key, v.FirstSeen = rs[0].Key, rs[0].FirstSeen
	}
	s := p.session()
	if s == nil {
		return v
	}
	v.Key, v.ID, v.Method, v.Assurance = s.who.Key.Fingerprint(), s.who.ID, methodName(s.who.Method), s.assurance
	if s.pad != nil && v.Name == "" && s.pad.Kind == policy.ByID {
		v.Name = s.pad.Name
	}
	v.IKE, v.Initiator, v.Btns, v.NAT = s.suite, s.initiator, s.btns, natName(s.nat)
	for _, pair := range h.sas.With(p.addr) {
		v.Children = append(v.Children, ChildView{
			SPIIn: pair.SPIIn, SPIOut: pair.SPIOut, Suite: pair.Suite, Mode: pair.Mode,
			Local: pair.Local.String(), Remote: pair.Remote.String(), Encap: pair.Encap,
			Since: h.time(moment(pair.Since)), Counters: counted[flow.PairID(pair.ID)], Sending: pair.Sending,
		})
	}
	return v
}

func methodName(m ikev2.Method) string {
	switch m {
	case ikev2.Signature:
		return "signature"
	case ikev2.SharedKey:
		return "shared-key"
	case ikev2.Null:
		return "null"
	}
	return ""
}

func natName(n ikev2.NAT) string {
	switch {
	case n.Us && n.Peer:
		return "both"
	case n.Us:
		return "us"
	case n.Peer:
		return "peer"
	}
	return ""
}

// Status returns the host in numbers, and what is wrong.
func (h *Host) Status(now time.Time) StatusView {
	v := StatusView{Key: h.cfg.Signer.Public.Fingerprint(), Since: h.began, Children: h.sas.Len(), Pins: h.book.Len(), Drops: make(map[string]uint64)}
	for _, p := range h.sortedPeers() {
		switch p.state {
		case StateProtected:
			v.Protected++
		case StateProbing, StateNegotiating:
			v.Probing++
		case StateClear:
			v.Clear++
		case StateRefused:
			v.Refused++
			v.Problems = append(v.Problems, problem(p))
		case StateOutage:
			v.Outage++
			v.Problems = append(v.Problems, problem(p))
		}
	}
	for _, s := range h.sessions {
		if s.up {
			v.IKESAs++
		}
	}
	v.ClearBy = h.tallies.view(h.policy.SPD())
	v.Promised, v.Probes = h.sas.Reserved(), h.probes.Stats()
	st := h.endpoint.Stats()
	v.HalfOpen = st.HalfOpen
	for reason, n := range st.Counts {
		if n > 0 {
			v.Drops["ike-"+ikev2.Reason(reason).String()] = n
		}
	}
	for reason, n := range map[string]uint64{
		"ike-address": h.crowd.deaf, string(Flood): h.crowd.flooded, string(Crowded): h.crowd.turned, string(Evicted): h.crowd.evicted,
	} {
		if n > 0 {
			v.Drops[reason] = n
		}
	}
	for reason, n := range h.drops {
		if n > 0 {
			v.Drops[flow.Reason(reason).String()] = n
		}
	}
	return v
}

// failure is the code of why traffic with p is not protected, or empty.
func (p *peer) failure() Reason {
	if p.trouble().reason == "" && (p.state == StateRefused || p.state == StateOutage) {
		return CannotProtect
	}
	return p.trouble().reason
}

func problem(p *peer) string {
	t := p.trouble()
	text := fmt.Sprintf("%v: %s [%s]", p.addr, t.why, p.failure())
	if t.hint != "" {
		text += " (" + t.hint + ")"
	}
	return text
}

// Records returns what is recorded of peers.
func (h *Host) Records() []trust.Record { return h.book.List() }
