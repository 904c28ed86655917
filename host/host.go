package host

import (
	"fmt"
	"io"
	"net/netip"
	"slices"
	"time"

	"github.com/btns-ipsec/btns/dataplane"
	"github.com/btns-ipsec/btns/dataplane/flow"
	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/ikev2"
	"github.com/btns-ipsec/btns/ikev2/chain"
	"github.com/btns-ipsec/btns/policy"
	"github.com/btns-ipsec/btns/probe"
	"github.com/btns-ipsec/btns/sad"
	"github.com/btns-ipsec/btns/selector"
	"github.com/btns-ipsec/btns/trust"
)

// Config is what a host starts with.
type Config struct {
	Signer  identity.Signer // the host's own long-term key
	Policy  *policy.Policy
	Peers   []Peer // configured ones; without a key of their own they are shown Signer
	Anchors Anchors
	// Certified is shown to strangers that ask for it.
	Certified Certified
	Records   []trust.Record // from the store
	Trust     trust.Config
	Probe     probe.Config
	IKE       ikev2.Config
	Encap     bool // the plane wants UDP encapsulation
	// Hold is how long packets to a host that need not be protected wait until it is known whether it can be, where the
	// policy says so; 0: DefaultHold.
	Hold time.Duration
	// Listen are the host's own addresses on which IKE is spoken; nil: all.
	Listen []netip.Addr
	Around Surroundings
	// Rotation is how far the change of Signer has come.
	Rotation Rotation
}

// Host is the brain of one machine. It is not safe for concurrent use.
type Host struct {
	cfg      Config
	rand     io.Reader
	endpoint *ikev2.Endpoint
	policy   *policy.Policy
	book     *trust.Book
	probes   *probe.Prober
	sas      sad.DB

	around   Surroundings
	peers    map[netip.Addr]*peer
	named    []*peer                // the configured ones, in the order of the configuration
	inside   map[netip.Prefix]*peer // the configured ones by what belongs to them
	lengths  []int                  // of those prefixes, longest first
	sessions map[ikev2.Handle]*session
	claims   []*session // of named peers; see claimants
	entries
	alarms   alarms
	reading  reading
	local    selector.Set // of the last child; see sameLocal
	tallies  tallies
	compares map[netip.Addr]*comparison // that operators have begun

	began    time.Time
	drops    [flow.Reasons]uint64
	crowd    crowd
	stopping bool

	out      []Action
	queue    []ikev2.Event
	acts     []ikev2.Action
	draining bool
}

// New makes a host. rand is read for SPIs, nonces and key exchange.
func New(cfg Config, rand io.Reader) (*Host, error) {
	if cfg.IKE.Instance == (ikev2.Instance{}) {
		if _, err := io.ReadFull(rand, cfg.IKE.Instance[:]); err != nil {
			return nil, fmt.Errorf("host: entropy: %w", err)
		}
	}
	h := &Host{
		cfg: cfg, rand: rand, policy: cfg.Policy, book: trust.New(cfg.Trust, cfg.Records),
		endpoint: ikev2.New(cfg.IKE, rand),
		probes:   probe.New(cfg.Probe),
		peers:    make(map[netip.Addr]*peer),
		entries: entries{
			byName: make(map[string]*peer), vouchers: make(map[string]*chain.Anchors), roaming: make(map[string]*Peer),
		},
		inside:   make(map[netip.Prefix]*peer),
		sessions: make(map[ikev2.Handle]*session),
		compares: make(map[netip.Addr]*comparison),
	}
	h.settleIn(cfg.Around)
	if err := distinct(cfg.Peers); err != nil {
		return nil, err
	}
	for i := range cfg.Peers {
		if c := &cfg.Peers[i]; c.Remote.IsValid() {
			h.addConfigured(c)
		} else {
			h.roaming[c.Name] = h.ownKey(c)
		}
	}
	h.acceptAnchors()
	return h, nil
}

func (h *Host) addConfigured(cfg *Peer) {
	p := &peer{addr: cfg.Remote, local: cfg.Local, cfg: h.ownKey(cfg)}
	h.peers[cfg.Remote] = p
	h.enlist(p)
}

// enlist makes a configured peer known by its name and by what belongs to it.
func (h *Host) enlist(p *peer) {
	h.named = append(h.named, p)
	h.byName[p.cfg.Name] = p
	for _, prefix := range p.prefixes() {
		if _, taken := h.inside[prefix.Masked()]; taken {
			continue // the first one in the configuration has it
		}
		h.inside[prefix.Masked()] = p
		if !slices.Contains(h.lengths, prefix.Bits()) {
			h.lengths = append(h.lengths, prefix.Bits())
			slices.SortFunc(h.lengths, func(a, b int) int { return b - a })
		}
	}
}

// ownKey has a configured peer that no other key is meant for shown the host's.
func (h *Host) ownKey(cfg *Peer) *Peer {
	if cfg.Self.Method == ikev2.Signature && cfg.Self.Key.Public.IsZero() {
		cfg.Self.Key = h.cfg.Signer
	}
	return cfg
}

// Start begins: what must be protected is closed before anything else happens.
func (h *Host) Start(now time.Time, out []Action) []Action {
	h.out, h.began = out, now
	h.setRules()
	h.alarms.add(now.Add(time.Hour), expireRecords, netip.Addr{}, 0)
	h.persist(h.book.SetRecycled(now, h.cfg.Trust.Recycled)) // for what was recorded before they were declared
	h.closeRecorded(now)
	h.resumeRotation(now)
	for _, p := range h.named {
		if p.cfg.Start == StartListen {
			p.state, p.since = StateClear, h.moment(now)
			h.enter(now, p, StateNegotiating, "waits for the peer to begin", "")
			continue
		}
		h.enter(now, p, StateNegotiating, "configured; the next packet makes SAs", "")
		if p.cfg.Start == StartUp {
			h.attempt(now, p, nil)
		}
	}
	return h.take()
}

// Step applies ev and appends to out what has to be done about it.
func (h *Host) Step(now time.Time, ev Event, out []Action) []Action {
	h.out = out
	switch ev := ev.(type) {
	case FromPlane:
		h.fromPlane(now, ev.Event)
	case Computed:
		h.ike(now, ikev2.Computed{Job: ev.Job})
	case Tick:
	case Surroundings:
		h.surroundings(now, ev)
	case SourceFound:
		h.sourceFound(now, ev)
	case ClearedRead:
		h.tallies.read = ev.Cleared
	case CountersRead:
		h.countersRead(now, ev.Counters)
	case Connect:
		h.connect(now, ev)
	case Down:
		h.down(now, ev.Remote)
	case Forget:
		h.forget(now, ev)
	case Accept:
		h.accept(now, ev)
	case Verify:
		h.verify(now, ev)
	case Revoke:
		h.revoke(now, ev)
	case Import:
		h.importKnown(now, ev)
	case RevokeSelf:
		h.revokeSelf(now, ev)
	case Compare:
		h.compare(now, ev.Addr)
	case Compared:
		h.compared(now, ev)
	case Rotate:
		h.rotate(now, ev)
	case RevokeOwn:
		h.revokeOwn(now, ev)
	case Reload:
		h.reload(now, ev)
	case Stop:
		h.stop(now)
	}
	h.ring(now)
	h.heed(now)
	return h.take()
}

func (h *Host) take() []Action {
	out := h.out
	h.out = nil
	return out
}

// ring does what is due.
func (h *Host) ring(now time.Time) {
	if at, ok := h.endpoint.Deadline(); ok && !at.After(now) {
		h.ike(now, ikev2.Tick{})
	}
	for addr, ok := h.probes.Next(now); ok; addr, ok = h.probes.Next(now) {
		h.turn(now, addr)
	}
	for {
		a, ok := h.alarms.next(now)
		if !ok {
			return
		}
		p := h.peers[a.peer]
		switch a.what {
		case endUpgrade:
			if p != nil && p.state == StateProtected && p.installed == flow.Upgrade && p.session() != nil && !p.session().nat.Peer {
				h.dispose(p, flow.Protect)
			}
		case useAnnounced:
			if pair := h.sas.Get(uint64(a.pair)); pair != nil && pair.Announced {
				h.announced(now, pair)
			}
		case dropLingered:
			h.change(dataplane.RemoveSA{ID: a.pair})
		case endHold:
			if p != nil {
				h.holdEnds(now, p)
			}
		case tryAgain:
			if p != nil && p.attempt == 0 && len(p.sessions) == 0 {
				h.attempt(now, p, nil)
			}
		case checkTwins:
			if p != nil {
				h.recheckTwins(now, p)
			}
		case readCounters:
			if a.at.Equal(h.reading.next) {
				h.reading.next = time.Time{}
				h.read(now)
			}
		case expireRecords:
			h.persist(h.book.Expire(now))
			h.alarms.add(now.Add(time.Hour), expireRecords, netip.Addr{}, 0)
		case keepRecords:
			h.keepRecords(now)
		case endCompare:
			h.endCompare(now, a.peer)
		case turnKey:
			h.turnOver(now)
		case speak:
			if s := h.sessions[ikev2.Handle(a.pair)]; s != nil {
				h.speak(now, s)
			}
		case stopNow:
			h.out = append(h.out, Stopped{})
		}
	}
}

// Deadline returns when Step wants to be called next, at the latest.
func (h *Host) Deadline() (time.Time, bool) {
	at, ok := h.alarms.deadline()
	for _, other := range []func() (time.Time, bool){h.endpoint.Deadline, h.probes.Deadline} {
		if t, some := other(); some && (!ok || t.Before(at)) {
			at, ok = t, true
		}
	}
	return at, ok
}

func (h *Host) change(c dataplane.Change) { h.out = append(h.out, Change{c}) }

func (h *Host) report(now time.Time, r Report) {
	r.Time = now
	h.out = append(h.out, r)
}
