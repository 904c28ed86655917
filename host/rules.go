package host

import (
	"net/netip"
	"slices"

	"github.com/btns-ipsec/btns/dataplane"
	"github.com/btns-ipsec/btns/dataplane/flow"
	"github.com/btns-ipsec/btns/ikev2"
	"github.com/btns-ipsec/btns/policy"
	"github.com/btns-ipsec/btns/protect"
	"github.com/btns-ipsec/btns/selector"
)

// setRules hands the SPD to the plane, which enforces it packet by packet. What the states of prefixes say is about the
// traffic that the SPD protects. No rule locks out what this host cannot do without (design: sticky without lock-out):
// there, traffic that a rule forbids is protected when it can be.
func (h *Host) setRules() {
	spd := h.policy.SPD()
	rules := make([]flow.Rule, 0, len(spd))
	var spared selector.Set
	for _, a := range h.book.Essentials() {
		spared = append(spared, selector.Host(a))
	}
	for i := range spd {
		r := ruleOf(&spd[i])
		r.Tally = h.tallies.of(&spd[i])
		if both := r.Remote.Intersect(spared); len(both) > 0 && (r.Action == flow.Drop || r.MustOut || r.MustIn) {
			rules = append(rules, flow.Rule{Local: r.Local, Remote: both, Action: flow.Seal, Tally: r.Tally})
		}
		rules = append(rules, r)
	}
	h.tallies.keep(spd)
	h.change(dataplane.SetRules{Rules: rules})
}

// protects reports whether the SPD protects any traffic with an address.
func (h *Host) protects(addr netip.Addr) bool {
	spd := h.policy.SPD()
	for i := range spd {
		e := &spd[i]
		switch {
		case !e.Remote.ContainsAddr(addr):
		case e.Action == policy.Protect:
			return true
		case e.Local.Covers(selector.Any()) && e.Remote.Covers(selector.Set{selector.Host(addr)}):
			return false
		}
	}
	return false
}

func ruleOf(e *policy.Entry) flow.Rule {
	r := flow.Rule{Local: e.Local, Remote: e.Remote, Action: flow.Drop}
	switch e.Action {
	case policy.Bypass:
		r.Action = flow.Pass
	case policy.Protect:
		r.Action = flow.Seal
		if e.Peer == "" { // the prefixes of a configured peer are never Clear
			r.MustOut, r.MustIn = e.Word(policy.Out) == policy.WordRequire, e.Word(policy.In) == policy.WordRequire
		}
	case policy.Discard:
	}
	return r
}

// proposal is what a child SA for a packet is asked to carry: everything between the two hosts where the entry has that,
// else what the entry has of it.
func proposal(d policy.Decision, f selector.Flow) (local, remote selector.Set) {
	local, remote = selector.Set{selector.Host(f.Local)}, selector.Set{selector.Host(f.Remote)}
	if d.Action != policy.Protect || d.PFP == 0 && d.Local.Covers(local) && d.Remote.Covers(remote) {
		return local, remote
	}
	return d.Propose(f)
}

// populated reports whether an entry of the SPD takes the selectors of an SA from the packet that asks for it (RFC 4301
// §4.4.1.1).
func populated(d policy.Decision) bool { return d.Action == policy.Protect && d.PFP != 0 }

// populates reports whether an entry about a configured peer does.
func (h *Host) populates(p *peer) bool {
	spd := h.policy.SPD()
	return p.cfg != nil && slices.ContainsFunc(spd, func(e policy.Entry) bool {
		return e.Peer == p.cfg.Name && populated(policy.Decision{Entry: &e})
	})
}

// served reports whether nothing is to be made for a packet to p: an SA takes it, or the SPD does not protect it. Where
// the SPD treats protocols differently, or populates selectors from packets, there are several child SAs.
func (h *Host) served(p *peer, trigger *selector.Flow) bool {
	if trigger == nil {
		return h.sends(p)
	}
	f := *trigger
	if p.cfg == nil {
		f.Local = p.local
	} else if !populated(h.policy.Outbound(f)) {
		return h.sends(p)
	}
	for _, pair := range h.sas.With(p.addr) {
		if pair.Sending && selector.Match(pair.Local, pair.Remote, f) {
			return true
		}
	}
	return h.sends(p) && h.policy.Outbound(f).Action != policy.Protect
}

// marks is what the SPD says about the outer header of a child's packets.
func (h *Host) marks(s *session, a ikev2.ChildUp) protect.Marks {
	if s.pad == nil {
		return protect.Marks{}
	}
	grant, err := h.policy.AuthorizeChild(s.ref(), a.Local, a.Remote, a.Mode, nil)
	if err != nil { // granted a moment ago
		return protect.Marks{}
	}
	return grant.Entry.Marks
}
