package host

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/btns-ipsec/btns/ikev2"
	"github.com/btns-ipsec/btns/policy"
	"github.com/btns-ipsec/btns/probe"
	"github.com/btns-ipsec/btns/trust"
)

// Reload puts another configuration in force, whole or not at all; [Reloaded] answers. What is protected and stays
// allowed goes on under the same SAs; what the new configuration forbids ends at once.
type Reload struct {
	Policy *policy.Policy
	Peers  []Peer
	// Anchors are all authorities that Policy names.
	Anchors   Anchors
	Certified Certified
	Trust     trust.Mode
	Recycled  []netip.Prefix // as in [trust.Config]
	Probe     probe.Scope
}

// Reloaded answers [Reload].
type Reloaded struct {
	Err     error    // nothing was changed
	Changes []string // else: what was, a sentence each
}

func (Reload) event()    {}
func (Reloaded) action() {}

var errNoPolicy = errors.New("host: a configuration without a policy")

func (h *Host) reload(now time.Time, r Reload) {
	if err := h.admissible(r); err != nil {
		h.out = append(h.out, Reloaded{Err: err})
		return
	}
	c := change{now: now}
	h.policy, h.cfg.Policy = r.Policy, r.Policy
	h.cfg.Anchors, h.cfg.Certified = r.Anchors, r.Certified
	h.acceptAnchors()
	h.book.SetMode(r.Trust)
	h.persist(h.book.SetRecycled(now, r.Recycled))
	h.probes.SetScope(r.Probe)
	h.replacePeers(&c, r.Peers)
	h.endHalfOpen(&c)
	for _, s := range h.sortedSessions() {
		if s.up && s.peer != nil {
			h.rejudge(&c, s)
		}
	}
	h.setRules()
	for _, p := range h.sortedPeers() {
		h.resettle(&c, p)
	}
	h.uncover(c.gone)
	h.report(now, Report{Kind: Operator, Level: Info, Text: "another configuration is in force: " + c.summary(), Reason: Reconfigured})
	h.out = append(h.out, Reloaded{Changes: c.done})
}

// admissible says why a configuration cannot be put in force, or nil.
func (h *Host) admissible(r Reload) error {
	switch {
	case h.stopping:
		return errStopping
	case r.Policy == nil:
		return errNoPolicy
	}
	return distinct(r.Peers)
}

// distinct demands that peers have addresses of their own.
func distinct(peers []Peer) error {
	seen := make(map[netip.Addr]string, len(peers))
	for i := range peers {
		p := &peers[i]
		if !p.Remote.IsValid() {
			continue
		}
		if other, ok := seen[p.Remote]; ok {
			return fmt.Errorf("host: peers %q and %q have the same address %v", other, p.Name, p.Remote)
		}
		seen[p.Remote] = p.Name
	}
	return nil
}

// change is one reload under way.
type change struct {
	now     time.Time
	gone    []netip.Prefix // that belonged to peers
	widened map[*peer]bool // configured peers whose traffic is not what their SAs are for
	begun   map[*peer]bool // attempts that were given up, and are to be made again
	done    []string
	kept    int // pairs
	ended   int
}

func (c *change) say(format string, args ...any) {
	c.done = append(c.done, fmt.Sprintf(format, args...))
}

func (c *change) summary() string {
	return fmt.Sprintf("%s kept, %d ended", plural(uint64(c.kept), "SA pair"), c.ended)
}

// endHalfOpen gives up what was begun under the old PAD and is not up: the side that began it begins again. Attempts of
// ours in which nobody has been identified go on, except with a peer whose configuration has changed.
func (h *Host) endHalfOpen(c *change) {
	for _, s := range h.sortedSessions() {
		if s.up || s.pad == nil && !c.widened[s.peer] {
			continue
		}
		if s.peer != nil && s.peer.attempt == s.handle {
			c.restart(s.peer)
		}
		h.giveUp(c, s)
	}
}

// giveUp ends an IKE SA that is not up, which is nobody's failure.
func (h *Host) giveUp(c *change, s *session) {
	if p := s.peer; p != nil && p.attempt == s.handle {
		p.attempt = 0
	}
	s.peer = nil
	h.ike(c.now, ikev2.DeleteSA{SA: s.handle, Silent: true})
}

func (c *change) restart(p *peer) {
	if c.begun == nil {
		c.begun = make(map[*peer]bool)
	}
	c.begun[p] = true
}

// rejudge asks of an IKE SA and its children what was asked when they came up.
func (h *Host) rejudge(c *change, s *session) {
	if err := h.readmit(c.now, s); err != nil {
		h.expel(c, s, err)
		return
	}
	var why error
	left := 0
	for _, pair := range h.sas.Owned(uint64(s.handle)) {
		if err := h.stillGranted(s, pair); err != nil {
			why = err
			h.sever(c, s, pair, err)
			h.ike(c.now, ikev2.DeleteChild{Child: ikev2.ChildID(pair.ID)})
			continue
		}
		left++
	}
	c.kept += left
	if left == 0 && why != nil && s.peer.cfg == nil {
		h.expel(c, s, why) // without traffic that it may protect there is no use for it
	}
}

// readmit finds the PAD entry of a peer that is here (BTNS-CORE-06), and asks trust about it under the mode that is in
// force now.
func (h *Host) readmit(now time.Time, s *session) error {
	entry, err := h.policy.FindPAD(s.proved())
	if err != nil {
		return err
	}
	if err := h.stillVouched(s, entry.Name, entry.Proof(s.proved())); err != nil {
		return err
	}
	if s.who.Method == ikev2.SharedKey && s.pad != nil && !bytes.Equal(s.pad.PSK, entry.PSK) {
		return fmt.Errorf("host: the shared secret of %q is another one", entry.Name)
	}
	if owner := h.configuredFor(entry.Name); owner != s.peer.cfg {
		return fmt.Errorf("host: the peer at %v belongs to the entry %q", s.remote.Addr(), entry.Name)
	}
	named := entry.Kind == policy.ByID || entry.Kind == policy.ByKey
	q := h.query(s, s.who, named)
	q.Roams = named && entry.Roams()
	v := h.book.Judge(now, q)
	if v.Refuse != nil {
		return v.Refuse
	}
	if named != s.named {
		s.assurance = v.Assurance
	}
	s.pad = entry
	h.claim(s, named)
	return nil
}
