package host

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/btns-ipsec/btns/dataplane/flow"
	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/ikev2"
	"github.com/btns-ipsec/btns/policy"
)

// What peers may have of this host for whom nobody vouches and to whom it never went: so many IKE SAs in all and from one
// network, so many new keys in a while (BTNS-CORE-63). When there are too many IKE SAs, theirs give way, and never those of
// others (BTNS-CORE-64).

const (
	sitePart     = 50              // of all such IKE SAs, the part that one network may have
	newKeys      = 4               // a second, from one address
	keysSaved    = 256             // new keys at once: a network behind a NAT that comes back
	maxSources   = 1 << 14         // addresses whose new keys are counted
	idleStranger = 5 * time.Minute // then a stranger gives way to another one
	lookedAt     = 16              // of the oldest strangers, among which the most silent one gives way
	crowdTold    = 10 * time.Second
	maxSilent    = 4096 // hosts that must be protected and do not answer, that are remembered
	maxTrying    = 1024 // attempts at once with hosts of which nothing is known
)

var (
	errFlood   = errors.New("host: too many new keys from there in a short time")
	errCrowded = errors.New("host: too many peers that nobody vouches for")
)

// crowd is what there is of them.
type crowd struct {
	strangers int                  // IKE SAs
	bySite    map[netip.Prefix]int // the same by network
	queue     []*session           // in the order in which they came; some have ended, or are no strangers any more
	sources   map[netip.Prefix]source
	silent    []netip.Addr // in the order in which they fell silent
	waiting   []netip.Addr // of peers whose keys wait for the operator, oldest first
	trying    int          // attempts of this host with hosts of which nothing is known
	told      time.Time    // when it was last told that somebody gave way

	deaf, flooded, turned, evicted uint64
}

// source counts new keys from one address: used is what has not been saved up again at that time.
type source struct {
	used     float64
	at, told time.Time
}

// maxStrangers leaves a quarter of all IKE SAs to others.
func (h *Host) maxStrangers() int { return h.maxSAs() / 4 * 3 }

func (h *Host) maxSAs() int {
	if n := h.cfg.IKE.MaxSAs; n > 0 {
		return n
	}
	return ikev2.Defaults().MaxSAs
}

func (h *Host) maxHalfOpen() int {
	if n := h.cfg.IKE.MaxHalfOpen; n > 0 {
		return n
	}
	return ikev2.Defaults().MaxHalfOpen
}

// sites are the networks that an address counts for, each with the number of parts that it may have: a /24, or a /64 and the
// /48 around it.
func sites(a netip.Addr) (out []struct {
	prefix netip.Prefix
	parts  int
},
) {
	a = a.Unmap().WithZone("")
	add := func(bits, parts int) {
		p, _ := a.Prefix(bits)
		out = append(out, struct {
			prefix netip.Prefix
			parts  int
		}{p, parts})
	}
	if a.Is4() {
		add(24, 1)
		return out
	}
	add(64, 1)
	add(48, 4)
	return out
}

// vouched reports whether the peer of a session is no stranger: the configuration names it, an operator has compared its
// key, or this host went to it, now or when its key was recorded.
func (h *Host) vouched(s *session, key identity.PublicKey) bool {
	if s.named || s.initiator || s.configured() != nil {
		return true
	}
	if key.IsZero() {
		return false
	}
	for _, r := range h.book.Key(key.Fingerprint()) {
		if r.Verified() || !r.Inbound && r.Addr.IsValid() {
			return true
		}
	}
	return false
}

// newKey says why somebody who comes with a key that was never seen here, or with none, is turned away before anything is
// computed for it, or nil.
func (h *Host) newKey(now time.Time, s *session, q ikev2.FindCredential, kind policy.Kind) error {
	if s.peer != nil || kind != policy.AnyKey && kind != policy.Null || !q.Key.IsZero() && len(h.book.Key(q.Key.Fingerprint())) > 0 {
		return nil
	}
	at := q.Remote.Addr().Unmap().WithZone("")
	bits := at.BitLen()
	if at.Is6() {
		bits = 64
	}
	prefix, _ := at.Prefix(bits)
	c := &h.crowd
	from := c.sources[prefix]
	from.used = max(0, from.used-newKeys*now.Sub(from.at).Seconds())
	from.at = now
	if from.used+1 <= keysSaved {
		from.used++
		c.note(prefix, from)
		return nil
	}
	c.flooded++
	if now.Sub(from.told) >= crowdTold {
		from.told = now
		h.report(now, Report{
			Kind: PeerRefused, Level: Warn, Remote: q.Remote.Addr(), Reason: Flood,
			Text: fmt.Sprintf("new keys come from %v faster than %d a second: they are turned away", prefix, newKeys),
		})
	}
	c.note(prefix, from)
	return errFlood
}

// note keeps what is known of a source. Those that have saved up everything again go when there are many, and when that is
// not enough all do.
func (c *crowd) note(prefix netip.Prefix, from source) {
	if _, ok := c.sources[prefix]; !ok && len(c.sources) >= maxSources {
		for p, o := range c.sources {
			if o.used <= newKeys*from.at.Sub(o.at).Seconds() {
				delete(c.sources, p)
			}
		}
		if len(c.sources) > maxSources/2 {
			clear(c.sources)
		}
	}
	if c.sources == nil {
		c.sources = make(map[netip.Prefix]source)
	}
	c.sources[prefix] = from
}

// admit says why there is no room for an authenticated peer, or nil. For whom somebody vouches there always is.
func (h *Host) admit(now time.Time, s *session, key identity.PublicKey) error {
	if h.vouched(s, key) {
		if len(h.sessions) > h.maxSAs()-h.maxHalfOpen() {
			h.evict(now, 0)
		}
		return nil
	}
	full := false
	for _, site := range sites(s.remote.Addr()) {
		full = full || h.crowd.bySite[site.prefix] >= max(1, h.maxStrangers()/sitePart*site.parts)
	}
	if full || h.crowd.strangers >= h.maxStrangers() && !h.evict(now, idleStranger) { // nobody gives way in vain
		h.crowd.turned++
		return errCrowded
	}
	s.stranger = true
	h.crowd.count(s, 1)
	h.crowd.enqueue(s)
	return nil
}

// count adds a stranger to those of its network, or takes it off.
func (c *crowd) count(s *session, n int) {
	if c.bySite == nil {
		c.bySite = make(map[netip.Prefix]int)
	}
	c.strangers += n
	for _, site := range sites(s.remote.Addr()) {
		if c.bySite[site.prefix] += n; c.bySite[site.prefix] <= 0 {
			delete(c.bySite, site.prefix)
		}
	}
}

func (c *crowd) enqueue(s *session) {
	if len(c.queue) > 2*c.strangers+lookedAt {
		c.queue = slices.DeleteFunc(c.queue, func(o *session) bool { return !o.stranger })
	}
	c.queue = append(c.queue, s)
}

// acquainted takes a session off the strangers, at its end or when somebody vouches for its peer.
func (h *Host) acquainted(s *session) {
	if s.stranger {
		h.crowd.count(s, -1)
		s.stranger = false
	}
}

// evict ends the session of a stranger that was silent for so long, and reports whether there is one: of the oldest few the
// one that was silent longest. Its peer is told, so that it knows where it stands.
func (h *Host) evict(now time.Time, silent time.Duration) bool {
	c := &h.crowd
	var victim *session
	seen, n := 0, 0
	for n < len(c.queue) && seen < lookedAt {
		s := c.queue[n]
		n++
		if !s.stranger || !s.up {
			continue
		}
		seen++
		if now.Sub(h.time(s.alive)) >= silent && (victim == nil || s.alive < victim.alive) {
			victim = s
		}
	}
	looked := c.queue[:n]
	c.queue = c.queue[n:]
	for _, s := range looked { // they are looked at again when it is their turn
		if s.stranger && s != victim {
			c.queue = append(c.queue, s)
		}
	}
	if victim == nil {
		return false
	}
	h.acquainted(victim)
	c.evicted++
	if now.Sub(c.told) >= crowdTold {
		c.told = now
		h.report(now, Report{
			Kind: Unprotected, Level: Warn, Remote: victim.remote.Addr(), Key: victim.who.Key.Fingerprint(), Reason: Evicted,
			Text: fmt.Sprintf("there are too many IKE SAs, so those of peers that nobody vouches for give way; %d have so far", c.evicted),
		})
	}
	h.ike(now, ikev2.DeleteSA{SA: victim.handle})
	return true
}

// fallSilent notes that a host that must be protected, and of which nothing else is known, does not answer. Of many such
// hosts those that fell silent first are forgotten: a rule of the SPD holds their traffic all the same.
func (h *Host) fallSilent(now time.Time, p *peer) {
	c := &h.crowd
	if p.cfg != nil || p.silent {
		return
	}
	p.silent = true
	c.silent = append(c.silent, p.addr)
	for len(c.silent) > maxSilent {
		o := h.peers[c.silent[0]]
		c.silent = c.silent[1:]
		if o == nil {
			continue
		}
		o.silent = false
		if o.state == StateOutage && o.cfg == nil && o.attempt == 0 && len(o.sessions) == 0 && !o.asking &&
			!h.sticky(now, o.addr) && !h.awaits(o) && h.policyRequires(o.addr) {
			h.dispose(o, flow.Clear)
			delete(h.peers, o.addr)
		}
	}
}

// hurried reports whether as many hosts are being tried as may be at once of which nothing is known.
func (h *Host) hurried(now time.Time, addr netip.Addr) bool {
	return h.crowd.trying >= maxTrying && !h.sticky(now, addr)
}

// tries notes an attempt with a host of which nothing is known.
func (h *Host) tries(now time.Time, s *session) {
	if s.peer.cfg == nil && !h.sticky(now, s.peer.addr) {
		s.trying = true
		h.crowd.trying++
	}
}

func (h *Host) tried(s *session) {
	if s.trying {
		s.trying = false
		h.crowd.trying--
	}
}
