package host

import (
	"net/netip"
	"slices"
	"time"

	"github.com/btns-ipsec/btns/dataplane"
	"github.com/btns-ipsec/btns/dataplane/flow"
	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/ikev2"
	"github.com/btns-ipsec/btns/policy"
	"github.com/btns-ipsec/btns/selector"
)

// peer is what the host knows of the traffic with one address, or with one configured peer.
type peer struct {
	addr  netip.Addr
	local netip.Addr // invalid until known
	cfg   *Peer      // nil: found by itself
	name  string     // that a user asked for, as trust.ParseName returns it; empty: nobody did

	state PeerState
	since moment
	ill   *trouble // nil: all is well, as with most peers; see [peer.trouble]

	sessions []*session     // IKE SAs that are up, oldest first
	sole     [1]*session    // where they lie as long as it is one
	attempt  ikev2.Handle   // an IKE SA that we are making; 0: none
	packet   *selector.Flow // that asked meanwhile, where an SA is populated from it

	installed flow.State // of the peer's prefixes, as the plane has it
	asking    bool       // FindSource is out
	silent    bool       // see [Host.fallSilent]
	waits     bool       // its key was turned away until the operator accepts it; see [Host.awaits]
	accepted  bool       // and now it is tried whether that lets it in
}

// trouble is what there is to say about a peer that is not protected, or was not before.
type trouble struct {
	why  string // it is in its state
	hint string
	// reason is why the traffic is not protected; empty when it is, or need not be.
	reason     Reason
	fails      int       // attempts in a row that came to nothing
	retryAt    time.Time // not before, when fails > 0
	renewAfter time.Time // a session is not made anew before, for the sake of what is known
	heldUntil  time.Time // packets that may go in clear wait no longer
	closed     bool      // ICMP said during the attempt that nothing listens there
	last       outcome   // of the last attempt
}

// trouble is what is not well with p.
func (p *peer) trouble() trouble {
	if p.ill == nil {
		return trouble{}
	}
	return *p.ill
}

// suffers changes what is not well with p.
func (p *peer) suffers(change func(*trouble)) {
	t := p.trouble()
	if change(&t); t == (trouble{}) {
		p.ill = nil
		return
	}
	p.ill = &t
}

// failed notes another attempt that came to nothing.
func (p *peer) failed(now time.Time) {
	p.suffers(func(t *trouble) {
		t.fails++
		t.retryAt = now.Add(pause(t.fails))
	})
}

// fresh has the next attempt wait for nothing.
func (p *peer) fresh() {
	p.suffers(func(t *trouble) { t.fails, t.retryAt = 0, time.Time{} })
}

// maxPauses is after how many failures in a row the pause grows no more.
const maxPauses = 6

// pause is how long to wait before another attempt: from one second to a minute.
func pause(fails int) time.Duration {
	return min(time.Second<<min(fails-1, maxPauses), time.Minute)
}

// prefixes are those whose disposition follows the state of p.
func (p *peer) prefixes() []netip.Prefix {
	if p.cfg != nil {
		return p.cfg.prefixes()
	}
	return p.hostPrefix()
}

func (p *peer) hostPrefix() []netip.Prefix {
	return []netip.Prefix{netip.PrefixFrom(p.addr, p.addr.BitLen())}
}

// session is one IKE SA, from the first question about it.
type session struct {
	handle    ikev2.Handle
	peer      *peer          // nil until it is up, unless we began it
	remote    netip.AddrPort // at which it was authenticated, for good: where packets go may move (RFC 7296 §2.23)
	local     netip.Addr
	began     moment
	who       ikev2.Peer // until it has authenticated, the ID that it asserts
	suite     string
	nonce     nonce            // settles twins
	pad       *policy.PADEntry // that took it in
	assurance identity.Assurance

	seen     volume // at the last reading of the counters
	alive    moment // last proof of life that came to be known here
	upSince  moment
	replaces ikev2.Handle // the session in whose place this one was begun; 0: none
	talk     *talk        // with a btns peer that has a key; else nil
	promised []promise    // SPIs of children that have not come yet

	nat       ikev2.NAT
	up        bool
	initiator bool
	btns      bool
	proven    bool  // it is the peer's as well as ours
	leaving   bool  // the peer said that it stops
	ending    bool  // we delete it, since another one serves
	stranger  bool  // counts as one: see [crowd]
	trying    bool  // an attempt that counts: see [Host.tries]
	named     bool  // pad names the key, or authenticated the identity
	failed    uint8 // attempts in a row before it came up, as far as they count
	recorded  bool  // trust has been told that traffic went both ways
	inUse     bool  // packets of the peer came since trust was last told that it is alive
	proofs    uint8 // answers to liveness checks since the last ESP packet from the peer, as far as they matter
}

// nonce is what is kept of one. They are random, and no shorter (RFC 7296 §2.10): the first octets tell any two apart.
type nonce [16]byte

func nonceFrom(b []byte) (n nonce) {
	copy(n[:], b)
	return n
}

// promise is an inbound SPI that was drawn for a child.
type promise struct {
	child ikev2.ChildID
	spi   uint32
}

// promises notes that spi is kept for child.
func (s *session) promises(child ikev2.ChildID, spi uint32) {
	s.promised = append(s.promised, promise{child, spi})
}

// settle ends the promise of one child: the SPI is returned unless the child has come.
func (h *Host) settle(s *session, child ikev2.ChildID, came bool) {
	kept := s.promised[:0]
	for _, p := range s.promised {
		switch {
		case p.child != child:
			kept = append(kept, p)
		case !came:
			h.sas.Release(p.spi)
		}
	}
	if s.promised = kept; len(kept) == 0 {
		s.promised = nil
	}
}

// required reports whether traffic with p may never go in clear.
func (h *Host) required(now time.Time, p *peer) bool {
	return p.cfg != nil || h.policyRequires(p.addr) || h.sticky(now, p.addr) && h.protects(p.addr) || h.awaits(p)
}

// peerAt returns the peer of an address, making it if need be.
func (h *Host) peerAt(now time.Time, addr netip.Addr) *peer {
	if p := h.peers[addr]; p != nil {
		return p
	}
	p := &peer{addr: addr, state: StateClear, since: h.moment(now)}
	h.peers[addr] = p
	return p
}

// forgetIdle drops the peer record of an address about which there is nothing to remember here.
func (h *Host) forgetIdle(now time.Time, p *peer) {
	if p.cfg == nil && p.state == StateClear && p.attempt == 0 && len(p.sessions) == 0 && !p.asking && !h.sticky(now, p.addr) {
		delete(h.peers, p.addr)
	}
}

// shut holds the traffic of a peer that must be protected and about which the plane has not been told. What lies in a
// configured tunnel has been.
func (h *Host) shut(now time.Time, p *peer, why string) {
	if p.state == StateClear && h.required(now, p) && h.peerFor(p.addr) == p {
		h.enter(now, p, StateNegotiating, why, "")
	}
}

// enter changes the state of p and what the plane does with its prefixes.
func (h *Host) enter(now time.Time, p *peer, s PeerState, why, hint string) {
	if p.state != s {
		p.state, p.since = s, h.moment(now)
	}
	p.suffers(func(t *trouble) { t.why, t.hint, t.reason = why, hint, "" })
	switch s {
	case StateClear, StateProbing:
		h.dispose(p, flow.Clear)
	case StateNegotiating, StateOutage:
		h.dispose(p, flow.Hold)
	case StateRefused:
		if h.required(now, p) {
			h.dispose(p, flow.Hold) // a packet asks again, after the pause
		} else {
			h.dispose(p, flow.Clear)
		}
	case StateProtected:
		switch {
		case h.acceptsClear(now, p):
			h.dispose(p, flow.Upgrade)
		case !h.sends(p) && h.announces(p):
			h.dispose(p, flow.Hold)
		default:
			h.dispose(p, flow.Protect)
		}
	}
}

// enterFor is enter for a state that is the consequence of something that failed.
func (h *Host) enterFor(now time.Time, p *peer, s PeerState, r Reason, why, hint string) {
	h.enter(now, p, s, why, hint)
	p.suffers(func(t *trouble) { t.reason = r })
}

// acceptsClear reports whether clear packets from p still come in although p is protected: for the packets under way when
// an unknown peer becomes protected, and from an address that a NAT shares among hosts of which one is p.
func (h *Host) acceptsClear(now time.Time, p *peer) bool {
	if h.required(now, p) {
		return false
	}
	for _, s := range p.sessions {
		if s.nat.Peer {
			return true
		}
	}
	for _, pair := range h.sas.With(p.addr) {
		if pair.Carried {
			return false
		}
	}
	return p.installed == flow.Clear || p.installed == flow.Upgrade
}

func (h *Host) dispose(p *peer, s flow.State) {
	if p.installed == s {
		return
	}
	p.installed = s
	for _, prefix := range p.prefixes() {
		h.change(dataplane.SetPrefix{Prefix: prefix, State: s, Local: h.insideLocal(p)})
	}
}

// insideLocal is the source address that packets to p's prefixes should have; invalid lets the system choose.
func (h *Host) insideLocal(p *peer) netip.Addr {
	if p.cfg == nil || !p.cfg.tunnel() {
		return p.local
	}
	return netip.Addr{}
}

// session returns the newest IKE SA of p that is up, or nil.
func (p *peer) session() *session {
	if len(p.sessions) == 0 {
		return nil
	}
	return p.sessions[len(p.sessions)-1]
}

func (p *peer) take(s *session) {
	if len(p.sessions) == 0 {
		p.sessions = p.sole[:0]
	}
	p.sessions = append(p.sessions, s)
}

func (p *peer) drop(s *session) {
	left := slices.DeleteFunc(slices.Clone(p.sessions), func(o *session) bool { return o == s })
	p.sessions, p.sole = nil, [1]*session{}
	for _, o := range left {
		p.take(o)
	}
}
