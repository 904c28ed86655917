package host

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/btns-ipsec/btns/dataplane/flow"
	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/policy"
	"github.com/btns-ipsec/btns/probe"
	"github.com/btns-ipsec/btns/trust"
)

// Explanation says why traffic with an address is treated as it is.
type Explanation struct {
	Addr   netip.Addr
	Port   uint16
	Entry  string // the SPD entry that applies
	Source string // where that was written; empty: built in
	State  PeerState
	Reason Reason // why it is not protected; empty when it is, or when nothing has failed
	Why    string // the same in a sentence
	Steps  []Step // the decisions, in the order in which they are made
	Hint   string // the one next thing to do
}

// Step is one station of the way to a decision, and what was found there.
type Step struct{ Name, Text string }

// Story returns the texts of the steps.
func (x Explanation) Story() (texts []string) {
	for _, s := range x.Steps {
		texts = append(texts, s.Text)
	}
	return texts
}

// The names of steps.
const (
	stepPolicy    = "policy"    // the SPD entry
	stepTrust     = "trust"     // what is recorded of the address
	stepProbe     = "probe"     // what came of trying it
	stepState     = "state"     // what follows for the traffic
	stepIKE       = "ike"       // the last exchange
	stepPAD       = "pad"       // the entry that took the peer in
	stepKey       = "key"       // the key of the session, beside the recorded one
	stepAssurance = "assurance" // how well it is known
	stepSA        = "sa"        // a pair of SAs
)

// walk gathers an explanation.
type walk struct {
	h   *Host
	now time.Time
	x   Explanation
}

func (w *walk) say(step, format string, args ...any) {
	w.x.Steps = append(w.x.Steps, Step{step, fmt.Sprintf(format, args...)})
}

// Explain walks the way that a packet to an address and port takes through the deciders. Port 0 is any.
func (h *Host) Explain(now time.Time, addr netip.Addr, port uint16) Explanation {
	w := walk{h, now, Explanation{Addr: addr, Port: port, State: StateClear}}
	p := h.peerFor(addr)
	f := flowTo(netip.Addr{}, addr)
	if p != nil && p.local.IsValid() {
		f.Local = p.local
	}
	if f.RemotePort = port; port != 0 {
		f.Proto = 6
	}
	d := h.policy.Outbound(f)
	w.policy(d)
	w.records(addr)
	if p == nil || p.cfg == nil && (!h.required(now, p) || h.probes.Status(addr).Result != 0) {
		w.probe(addr, d)
	}
	if p == nil {
		w.x.Hint = w.next(d, nil)
		return w.x
	}
	w.peer(p)
	w.x.Hint = w.next(d, p)
	return w.x
}

func (w *walk) policy(d policy.Decision) {
	w.x.Entry, w.x.Source = d.Name, d.Source
	where := "built in"
	if d.Source != "" {
		where = d.Source
	}
	w.say(stepPolicy, "the entry %q (%s) applies: %s", d.Name, where, tellEntry(d))
}

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
	text := fmt.Sprintf("protect (%v), %s", d.Fallback, who)
	if d.MinAssurance > 0 {
		text += fmt.Sprintf(", assurance %v or better", d.MinAssurance)
	}
	if d.Fallback != policy.Require && d.Waiting == policy.Hold {
		text += "; packets wait for a moment while it is tried"
	}
	return text
}

func (w *walk) records(addr netip.Addr) {
	rs := w.h.book.Lookup(w.now, addr, w.h.around.Network)
	if len(rs) == 0 {
		w.say(stepTrust, "no key is recorded for this address")
	}
	for _, r := range rs {
		w.say(stepTrust, "%s", w.h.tellRecord(w.now, r))
	}
	if p := w.h.peers[addr]; p != nil && p.name != "" {
		for _, r := range w.h.book.LookupName(w.now, p.name) {
			w.say(stepTrust, "the key %v is recorded for the name %s, by which it was asked for, since %s (%v): it comes before that of the address",
				r.Key, p.name, r.FirstSeen.Format(time.DateTime), r.Assurance)
		}
	}
	w.waiting(addr)
}

func (h *Host) tellRecord(now time.Time, r trust.Record) string {
	text := fmt.Sprintf("the key %v is recorded for this address since %s (%v)", r.Key, r.FirstSeen.Format(time.DateTime), r.Assurance)
	switch {
	case h.book.Essential(r.Addr):
		text += "; it is a gateway, resolver or DHCP server of this network, which nothing locks out, so its traffic may go in clear"
	case h.sticky(now, r.Addr):
		text += "; traffic with it never goes in clear by fallback"
	case r.Suspended:
		text += "; the peer said that it stops, so its traffic may go in clear"
	}
	return text
}

// probe says what trying an unknown address came to.
func (w *walk) probe(addr netip.Addr, d policy.Decision) {
	if d.Action != policy.Protect {
		return
	}
	s := w.h.probes.Status(addr)
	switch {
	case d.Fallback == policy.Never && s.Result == 0:
		w.say(stepProbe, "it is not tried: this host never begins (fallback never)")
		return
	case !w.h.probes.Admits(addr):
		w.say(stepProbe, "it is not tried: the scope of probing leaves it out, or it is no single host elsewhere")
		return
	case s.Result == 0:
		w.say(stepProbe, "it has not been tried: no packet to this address has been noticed, or it waits for its turn")
		return
	}
	text := fmt.Sprintf("tried at %s: %v", s.At.Format(time.DateTime), s.Result)
	if s.Tries > 1 {
		text += fmt.Sprintf(", %d times in a row", s.Tries)
	}
	if s.Result != probe.Trying && s.Until.After(w.now) {
		text += "; it is left alone until " + s.Until.Format(time.DateTime)
	}
	w.say(stepProbe, "%s", text)
	if r := reasonOf(s); r != "" {
		w.x.Reason, w.x.Why = r, r.Meaning().Text
	}
}

func (w *walk) peer(p *peer) {
	w.x.State = p.state
	if r := p.failure(); r != "" || p.state == StateProtected {
		w.x.Reason, w.x.Why = r, p.trouble().why
	}
	text := fmt.Sprintf("%s since %s", p.state, w.h.time(p.since).Format(time.DateTime))
	if p.trouble().why != "" {
		text += ": " + p.trouble().why
	}
	w.say(stepState, "%s", text)
	w.exchange(p)
	s := p.session()
	if s == nil {
		w.strangerPAD(p)
		return
	}
	w.session(s)
	for _, pair := range w.h.sas.With(p.addr) {
		c := w.h.countersOf(flow.PairID(pair.ID))
		use := "receives"
		if pair.Sending {
			use = "sends and receives"
		}
		w.say(stepSA, "%08x in, %08x out, %v, %v mode, since %s, %s: in %s, %d octets, %d dropped; out %s, %d octets",
			pair.SPIIn, pair.SPIOut, pair.Suite, pair.Mode, w.h.time(moment(pair.Since)).Format(time.DateTime), use,
			plural(c.PacketsIn, "packet"), c.BytesIn, c.Drops, plural(c.PacketsOut, "packet"), c.BytesOut)
	}
}

// exchange says what came of IKE.
func (w *walk) exchange(p *peer) {
	switch s := p.session(); {
	case s != nil:
		began := "the peer began"
		if s.initiator {
			began = "this host began"
		}
		w.say(stepIKE, "an IKE SA since %s (%s): %s", w.h.time(s.began).Format(time.DateTime), began, s.suite)
	case p.attempt != 0:
		w.say(stepIKE, "an attempt is under way")
	}
	if p.trouble().last.reason == "" {
		return
	}
	text := fmt.Sprintf("the last attempt ended at %s: %s", p.trouble().last.at.Format(time.DateTime), p.trouble().last.why)
	if p.trouble().fails > 0 {
		text += fmt.Sprintf("; %s failed in a row", plural(uint64(p.trouble().fails), "attempt"))
		if p.trouble().retryAt.After(w.now) {
			text += ", the next not before " + p.trouble().retryAt.Format(time.DateTime)
		}
	}
	w.say(stepIKE, "%s", text)
}

// strangerPAD says which entry would decide about a peer that has not come yet.
func (w *walk) strangerPAD(p *peer) {
	switch {
	case p.cfg != nil:
		w.wanted(p.cfg.Name)
	case w.h.policy.AcceptsUnknown():
		w.say(stepPAD, "nobody has authenticated; an unknown peer with a key would be let in")
	default:
		w.say(stepPAD, "nobody has authenticated; unknown peers are not let in")
	}
}

func (w *walk) session(s *session) {
	if s.pad != nil {
		w.say(stepPAD, "the entry %q took the peer in, by %v", s.pad.Name, s.pad.Kind)
	}
	switch key := s.who.Key.Fingerprint(); {
	case s.who.Key.IsZero():
		w.say(stepKey, "the peer has shown no key (%s)", methodName(s.who.Method))
	default:
		w.say(stepKey, "the peer has proven the key %v", key)
	}
	w.certificate(s)
	w.say(stepAssurance, "%v", s.assurance)
}

// next is the one next thing to do.
func (w *walk) next(d policy.Decision, p *peer) string {
	switch {
	case p != nil && p.trouble().hint != "":
		return p.trouble().hint
	case p != nil && p.state == StateProtected:
		if s := p.session(); s != nil && s.assurance <= identity.FirstUse && !s.who.Key.IsZero() {
			return fmt.Sprintf("to be sure that nobody is in the middle, compare the key with `btns id` on %v", w.x.Addr)
		}
		return ""
	case d.Action != policy.Protect:
		return ""
	case w.x.Reason != "" && w.x.Reason.Meaning().Hint != "":
		return w.x.Reason.Meaning().Hint
	}
	return fmt.Sprintf("to try it now: btns wait %v", w.x.Addr)
}
