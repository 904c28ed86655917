package host

import (
	"fmt"
	"time"

	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/policy"
	"github.com/btns-ipsec/btns/selector"
)

// PolicyTest says what would happen to a packet.
type PolicyTest struct {
	Flow    selector.Flow
	Entry   string // of the SPD: the first that matches
	Source  string // where that was written, such as "btns.toml:12"; empty for built-in ones
	Action  policy.Action
	Verdict string // what becomes of the packet, in words

	// For Protect.

	Fallback     policy.Fallback
	Waiting      policy.Waiting
	MinAssurance identity.Assurance
	Peers        []string // PAD entries whose peers may be the other end
	Inbound      string   // what becomes of a clear packet the other way, in words
	Notes        []string // what is to be known besides, a sentence each
}

// TestPolicy says what a policy makes of a packet, as far as it can be told without a host.
func TestPolicy(p *policy.Policy, f selector.Flow) PolicyTest {
	d := p.Outbound(f)
	t := PolicyTest{Flow: f, Entry: d.Name, Source: d.Source, Action: d.Action, Inbound: "dropped"}
	if p.InboundClear(f) {
		t.Inbound = "accepted"
	}
	switch d.Action {
	case policy.Bypass:
		t.Verdict = "passes in clear"
		return t
	case policy.Discard:
		t.Verdict = "is dropped"
		return t
	}
	t.Fallback, t.Waiting, t.MinAssurance = d.Fallback, d.Waiting, d.MinAssurance
	t.Peers = eligible(p, d.Entry, f)
	t.Verdict = protectVerdict(t)
	return t
}

func protectVerdict(t PolicyTest) string {
	meanwhile := "waits for its SA"
	if t.Waiting == policy.Pass {
		meanwhile = "passes in clear until there is an SA"
	}
	switch {
	case len(t.Peers) == 0 && t.Fallback == policy.Require:
		return "is dropped: it must be protected, and no peer may be its other end"
	case len(t.Peers) == 0:
		return "passes in clear: no peer may be its other end"
	case t.Fallback == policy.Require:
		return "is protected; " + meanwhile + ", and is dropped when the other end cannot"
	case t.Fallback == policy.Never:
		return "is protected when the other end begins; passes in clear else"
	}
	return "is protected when the other end can; " + meanwhile + ", and for good when the other end cannot"
}

// eligible is the PAD entries whose peers may use an entry of the SPD for a packet, whatever they have to prove first.
func eligible(p *policy.Policy, e *policy.Entry, f selector.Flow) []string {
	var names []string
	local, remote := f.Ends()
	for i := range p.PAD() {
		pad := &p.PAD()[i]
		ref := policy.PeerRef{Entry: pad, Assurance: identity.Verified, LocalAddr: f.Local, RemoteAddr: f.Remote}
		g, err := p.AuthorizeChild(ref, selector.Set{local}, selector.Set{remote}, e.Mode, nil)
		if err == nil && g.Entry.Name == e.Name && g.Entry.Source == e.Source {
			names = append(names, pad.Name)
		}
	}
	return names
}

// TestPolicy says what becomes of a packet now, with what this host knows beyond its policy.
func (h *Host) TestPolicy(now time.Time, f selector.Flow) PolicyTest {
	t := TestPolicy(h.policy, f)
	addr := f.Remote
	note := func(format string, args ...any) { t.Notes = append(t.Notes, fmt.Sprintf(format, args...)) }
	if h.sticky(now, addr) && t.Action == policy.Protect && t.Fallback != policy.Require {
		note("%v was protected before, so it is never spoken to in clear by fallback: btns trust forget %v ends that", addr, addr)
		t.Inbound = "dropped"
	}
	if p := h.peerFor(addr); h.book.Essential(addr) && (p == nil || p.cfg == nil) && t.Inbound == "dropped" {
		note("this host cannot do without %v (gateway, resolver, DHCP), so no rule locks it out: it is protected when it can be, and spoken to in clear when it cannot", addr)
		t.Verdict, t.Inbound = "is protected when the other end can; passes in clear else", "accepted"
	}
	if p := h.peerFor(addr); p != nil {
		note("traffic with it is %s now", p.state)
	}
	return t
}
