package ikev2

import (
	"encoding/binary"
	"io"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/btns-ipsec/btns/ikev2/chain"
	"github.com/btns-ipsec/btns/ikev2/suite"
)

// Endpoint holds all IKE SAs of one host. It has one owner and is not safe for concurrent use.
type Endpoint struct {
	cfg     Config
	rand    io.Reader  // for what everybody may see: SPIs, nonces
	secret  io.Reader  // for what nobody may
	dice    *rand.Rand // for jitter only
	epoch   time.Time
	started bool
	now     instant
	clock   time.Time // the wall clock at the last step: certificates end by it
	out     []Action

	bySPI    map[uint64]*sa // by the SPI that we gave
	sessions map[Handle]*session
	children map[ChildID]*session
	suites   map[string]*suite.IKE // shared by the SAs that have them
	names    map[*suite.IKE]string // of those
	wheel    wheel
	over     []*sa // of which only the last answer is left, oldest first
	dirty    []*sa

	front   front
	stats   Stats
	dry     bool // the source of entropy has failed
	foreign bool // behaves as a peer that is not btns
	anchors *chain.Anchors

	handles  Handle
	childIDs ChildID
	serials  uint64
}

// Stats counts.
type Stats struct {
	SAs      int // established, each counted once however often it was rekeyed
	HalfOpen int // as responder
	Counts   [Reasons]uint64
}

// New makes an endpoint without any SA. rand is read in Step only, for SPIs, nonces and the seeds of secrets.
func New(cfg Config, rnd io.Reader) *Endpoint {
	e := &Endpoint{
		cfg: cfg.complete(), rand: rnd, secret: rnd,
		bySPI:    make(map[uint64]*sa),
		sessions: make(map[Handle]*session),
		children: make(map[ChildID]*session),
		suites:   make(map[string]*suite.IKE),
		names:    make(map[*suite.IKE]string),
	}
	var seed [16]byte
	e.fill(seed[:])
	e.dice = rand.New(rand.NewPCG(binary.BigEndian.Uint64(seed[:]), binary.BigEndian.Uint64(seed[8:])))
	e.front = newFront()
	return e
}

// NewHandle names an IKE SA to come, for [Initiate].
func (e *Endpoint) NewHandle() Handle {
	e.handles++
	return e.handles
}

// NewChild names a child SA to come, for [ChildRequest].
func (e *Endpoint) NewChild() ChildID {
	e.childIDs++
	return e.childIDs
}

// Accept says which authorities may vouch for peers: a responder asks all for certificates of theirs before it knows who it
// is. Nil are none.
func (e *Endpoint) Accept(anchors *chain.Anchors) { e.anchors = anchors }

// Stats returns the counters.
func (e *Endpoint) Stats() Stats {
	s := e.stats
	s.HalfOpen = e.front.halfOpen
	return s
}

// Deadline returns when Step wants a [Tick], at the latest.
func (e *Endpoint) Deadline() (time.Time, bool) {
	s, ok := e.wheel.first()
	if !ok {
		return time.Time{}, false
	}
	return e.epoch.Add(time.Duration(s.due)), true
}

// Step applies ev and appends to out what has to be done about it, in order.
func (e *Endpoint) Step(now time.Time, ev Event, out []Action) []Action {
	if !e.started {
		e.started, e.epoch = true, now
	}
	if t := instant(now.Sub(e.epoch)); t > e.now { // a clock that goes back stands still
		e.now = t
	}
	e.out, e.clock = out, now
	switch ev := ev.(type) {
	case Datagram:
		e.datagram(ev)
	case Tick:
		e.tick()
	case Computed:
		e.computed(ev)
	case Initiate:
		e.initiate(ev)
	case Credential, PeerJudged, ChildJudged:
		e.judged(ev)
	default:
		e.wish(ev)
	}
	for _, s := range e.dirty {
		s.dirty = false
		if s.gone {
			e.wheel.set(s, never)
		} else {
			e.wheel.set(s, e.dueOf(s))
			s.rest()
			s.session.rest()
		}
	}
	e.dirty = e.dirty[:0]
	out, e.out = e.out, nil
	return out
}

func (e *Endpoint) do(a Action) { e.out = append(e.out, a) }

func (e *Endpoint) count(r Reason) { e.stats.Counts[r]++ }

// notice counts, and tells the operator.
func (e *Endpoint) notice(s *sa, r Reason, text string) {
	e.count(r)
	n := Notice{Reason: r, Text: text}
	if s != nil {
		n.SA, n.Remote = s.session.handle, s.remote
	}
	e.do(n)
}

// touch marks s as changed: its place in the wheel is found anew after the step.
func (e *Endpoint) touch(s *sa) {
	if s != nil && !s.dirty {
		s.dirty = true
		e.dirty = append(e.dirty, s)
	}
}

// fill reads entropy. With a source that fails no handshake begins any more.
func (e *Endpoint) fill(b []byte) { e.read(e.rand, b) }

func (e *Endpoint) read(from io.Reader, b []byte) {
	if _, err := io.ReadFull(from, b); err != nil {
		e.count(Internal)
		e.dry = true
	}
}

// seed is entropy for the secret of one job.
func (e *Endpoint) seed() (b [32]byte) {
	e.read(e.secret, b[:])
	return b
}

const nonceLen = 32 // half of the longest PRF key (RFC 7296 §2.10)

func (e *Endpoint) nonce() []byte {
	b := make([]byte, nonceLen)
	e.fill(b)
	return b
}

// spi draws an SPI that no other IKE SA of ours has.
func (e *Endpoint) spi() uint64 {
	var b [8]byte
	for range 8 {
		e.fill(b[:])
		v := binary.BigEndian.Uint64(b[:])
		if _, taken := e.bySPI[v]; v != 0 && !taken {
			return v
		}
	}
	return 0
}

// vary returns d changed by up to the usual jitter either way.
func (e *Endpoint) vary(d time.Duration) time.Duration {
	return d + time.Duration((e.dice.Float64()*2-1)*jitter*float64(d))
}

// newSA registers an IKE SA under the SPI that we give.
func (e *Endpoint) newSA(n *session, initiator bool, spi uint64, at path) *sa {
	e.serials++
	s := &sa{
		session: n, initiator: initiator, path: at, made: e.now, soft: never, hard: never, until: never,
		due: never, serial: e.serials, slot: -1,
	}
	if initiator {
		s.spii = spi
	} else {
		s.spir = spi
	}
	e.bySPI[spi] = s
	e.touch(s)
	return s
}

func (s *sa) ourSPI() uint64 {
	if s.initiator {
		return s.spii
	}
	return s.spir
}

// wipe forgets the keys of s (RFC 7296 §2.12).
func (s *sa) wipe() {
	suite.Wipe(s.skd)
	s.in.Wipe()
	s.out.Wipe()
	s.in, s.out, s.skd = nil, nil, nil
}

// remove takes s out of every index. Its session may go on under another SA.
func (e *Endpoint) remove(s *sa) {
	if s.gone {
		return
	}
	e.halfOpenEnded(s)
	e.lose(s)
	s.gone = true
	delete(e.bySPI, s.ourSPI())
	s.wipe()
	s.answer, s.own, s.asking, s.parts = nil, nil, nil, nil
	e.touch(s)
}

// report tells the owner that a session is gone, once.
func (e *Endpoint) report(n *session, err error, byPeer bool) {
	if _, ok := e.sessions[n.handle]; !ok {
		return
	}
	delete(e.sessions, n.handle)
	n.closing = true
	for _, s := range e.sasOf(n) {
		if s.own != nil && s.own.task != nil {
			s.own.task.lost(e, s, err)
			s.own.task = nil
		}
	}
	for _, t := range n.queue {
		t.lost(e, n.current, err)
	}
	for _, d := range n.turn().later {
		d.task.lost(e, n.current, err)
	}
	n.queue, n.toTurn().later = nil, nil
	for _, c := range slices.Clone(n.children) {
		e.childDown(n, c, false, err)
	}
	if n.up {
		e.stats.SAs--
	}
	if n.up || n.shown {
		e.do(SADown{SA: n.handle, Remote: n.current.remote, WasUp: n.up, Err: err, Peer: byPeer})
	}
}

// sasOf returns all IKE SAs of a session: usually one, more around a rekey.
func (e *Endpoint) sasOf(n *session) []*sa {
	list := make([]*sa, 0, 1+len(n.turn().others))
	for _, s := range append([]*sa{n.current}, n.turn().others...) {
		if !s.gone {
			list = append(list, s)
		}
	}
	return list
}

// Judge events find their SA by its handle.
func (e *Endpoint) judged(ev Event) {
	var h Handle
	switch ev := ev.(type) {
	case Credential:
		h = ev.SA
	case PeerJudged:
		h = ev.SA
	case ChildJudged:
		h = ev.SA
	}
	n := e.sessions[h]
	if n == nil {
		return
	}
	for _, s := range e.sasOf(n) {
		e.touch(s)
		switch ev := ev.(type) {
		case Credential:
			s.state.credential(e, s, ev)
		case PeerJudged:
			s.state.peerJudged(e, s, ev)
		case ChildJudged:
			s.state.childJudged(e, s, ev)
		}
	}
}

func (e *Endpoint) computed(ev Computed) {
	j, ok := ev.Job.(work)
	if !ok {
		return
	}
	if s := j.owner(); s != nil && !s.gone {
		e.touch(s)
		s.state.computed(e, s, j)
	}
}

func (e *Endpoint) compute(j work) { e.do(Compute{Job: j}) }
