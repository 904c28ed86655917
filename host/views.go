package host

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/btns-ipsec/btns/dataplane/flow"
	"github.com/btns-ipsec/btns/ikev2"
	"github.com/btns-ipsec/btns/policy"
	"github.com/btns-ipsec/btns/trust"
)

// Peers returns every peer that there is something to say about, by address.
func (h *Host) Peers(now time.Time) []PeerView {
	var list []PeerView
	for _, p := range h.sortedPeers() {
		if p.state == StateClear && p.cfg == nil && p.why == "" {
			continue
		}
		list = append(list, h.view(now, p))
	}
	return list
}

func (h *Host) view(now time.Time, p *peer) PeerView {
	v := PeerView{Addr: p.addr, State: p.state, Since: p.since, Why: p.why, Hint: p.hint}
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
	v.IKE, v.Initiator, v.Btns, v.NAT = s.suite, s.initiator, s.btns, natName(s.nat)
	for _, pair := range h.sas.With(p.addr) {
		c := h.counters[flow.PairID(pair.ID)]
		v.Children = append(v.Children, ChildView{
			SPIIn: pair.SPIIn, SPIOut: pair.SPIOut, Suite: pair.Suite, Mode: pair.Mode,
			Local: pair.Local.String(), Remote: pair.Remote.String(), Encap: pair.Encap,
			Since: pair.Since, Counters: c, Sending: pair.Sending,
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
	v.Promised = h.sas.Reserved()
	st := h.endpoint.Stats()
	v.HalfOpen = st.HalfOpen
	for reason, n := range st.Counts {
		if n > 0 {
			v.Drops["ike-"+ikev2.Reason(reason).String()] = n
		}
	}
	if h.deaf > 0 {
		v.Drops["ike-address"] = h.deaf
	}
	for reason, n := range h.drops {
		if n > 0 {
			v.Drops[flow.Reason(reason).String()] = n
		}
	}
	return v
}

func problem(p *peer) string {
	text := fmt.Sprintf("%v: %s", p.addr, p.why)
	if p.hint != "" {
		text += " (" + p.hint + ")"
	}
	return text
}

// Explain says why traffic with an address and port is treated as it is. Port 0 is any.
func (h *Host) Explain(now time.Time, addr netip.Addr, port uint16) Explanation {
	e := Explanation{Addr: addr, Port: port, State: StateClear}
	p := h.peerFor(addr)
	f := flowTo(netip.Addr{}, addr)
	if p != nil && p.local.IsValid() {
		f.Local = p.local
	}
	if f.RemotePort = port; port != 0 {
		f.Proto = 6
	}
	d := h.policy.Outbound(f)
	e.Entry = d.Name
	e.Story = append(e.Story, fmt.Sprintf("the policy entry %q applies: %s", d.Name, tellEntry(d)))
	for _, r := range h.book.Lookup(now, addr, h.around.Network) {
		e.Story = append(e.Story, h.tellRecord(now, r))
	}
	if p == nil {
		e.Story = append(e.Story, h.tellProbe(addr))
		e.Hint = fmt.Sprintf("to try it now: btns wait %v", addr)
		return e
	}
	e.State, e.Hint = p.state, p.hint
	e.Story = append(e.Story, h.tellPeer(now, p)...)
	return e
}

func (h *Host) tellRecord(now time.Time, r trust.Record) string {
	text := fmt.Sprintf("the key %v is recorded for this address since %s", r.Key, r.FirstSeen.Format(time.DateTime))
	switch {
	case h.book.Essential(r.Addr):
		text += "; it is a gateway, resolver or DHCP server of this network, which nothing locks out, so its traffic may go in clear"
	case h.sticky(now, r.Addr):
		text += "; traffic with it never goes in clear by fallback"
	}
	return text
}

func (h *Host) tellPeer(now time.Time, p *peer) []string {
	story := []string{fmt.Sprintf("state: %s since %s", p.state, p.since.Format(time.DateTime))}
	if p.why != "" {
		story = append(story, p.why)
	}
	if p.fails > 0 {
		story = append(story, fmt.Sprintf("%s failed; the next not before %s", plural(uint64(p.fails), "attempt"), p.retryAt.Format(time.TimeOnly)))
	}
	if s := p.session(); s != nil {
		story = append(story, fmt.Sprintf("IKE SA: %s; key %v; assurance %v", s.suite, s.who.Key.Fingerprint(), s.assurance))
		var spis []string
		for _, pair := range h.sas.With(p.addr) {
			spis = append(spis, fmt.Sprintf("%08x/%08x %v %v", pair.SPIIn, pair.SPIOut, pair.Suite, pair.Mode))
		}
		if len(spis) > 0 {
			story = append(story, "SAs (in/out): "+strings.Join(spis, ", "))
		}
	}
	return story
}

// Records returns what is recorded of peers.
func (h *Host) Records() []trust.Record { return h.book.List() }

// tellEntry says in words what an SPD entry does.
func tellEntry(d policy.Decision) string {
	if d.Action != policy.Protect {
		return d.Action.String()
	}
	who := "authenticated peers only"
	switch {
	case d.Peer != "":
		who = fmt.Sprintf("peer %q only", d.Peer)
	case d.NullOK:
		who = "any peer, even without a key"
	case d.BtnsOK:
		who = "any peer with a key"
	}
	return fmt.Sprintf("protect (%v), %s", d.Fallback, who)
}

// tellProbe says what trying an unknown address came to.
func (h *Host) tellProbe(addr netip.Addr) string {
	s := h.probes.Status(addr)
	if s.Result == 0 {
		return "it has not been tried: no packet to this address has been noticed, or it waits for its turn"
	}
	text := fmt.Sprintf("tried at %s: %v", s.At.Format(time.DateTime), s.Result)
	if s.Until.After(s.At) {
		text += "; it is left alone until " + s.Until.Format(time.DateTime)
	}
	return text
}
