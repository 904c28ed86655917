package ikev2

import (
	"container/heap"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/ikev2/wire"
	"github.com/btns-ipsec/btns/protect"
	"github.com/btns-ipsec/btns/selector"
)

// node is one endpoint with a judge that says yes unless told otherwise, and what came of it.
type node struct {
	*Endpoint
	name   string
	signer identity.Signer
	local  Local  // how it shows itself as responder
	remote Remote // what it wants of others as responder
	offer  []protect.Suite
	kes    []uint16
	mode   protect.Mode
	life   protect.Lifetime

	credential func(FindCredential) Credential
	judgePeer  func(JudgePeer) error
	judgeChild func(JudgeChild, ChildJudged) ChildJudged

	acts     []Action // all but Send and Compute
	children map[ChildID]ChildUp
	using    map[ChildID]bool
	up       map[Handle]SAUp
	down     []SADown
	spi      uint32
	jobs     []Job // held back when hold is set
	hold     bool
	known    bool // every peer is
}

type flight struct {
	at  time.Time
	seq int
	to  *node
	d   Datagram
}

type sky []flight

func (s sky) Len() int { return len(s) }
func (s sky) Less(i, j int) bool {
	return s[i].at.Before(s[j].at) || s[i].at.Equal(s[j].at) && s[i].seq < s[j].seq
}
func (s sky) Swap(i, j int) { s[i], s[j] = s[j], s[i] }
func (s *sky) Push(x any)   { *s = append(*s, x.(flight)) }
func (s *sky) Pop() any {
	o := *s
	f := o[len(o)-1]
	*s = o[:len(o)-1]
	return f
}

// pair joins two nodes by a wire in virtual time, which jumps to whatever comes next.
type pair struct {
	t      testing.TB
	now    time.Time
	a, b   *node
	dice   *rand.Rand
	sky    sky
	seq    int
	delay  time.Duration
	loss   float64
	dup    float64
	wobble time.Duration // reordering
	// carry, when set, sees every datagram and returns what becomes of it: NATs, attackers, lossy wires.
	carry  func(from *node, s Send) []Send
	log    []string
	record bool
	sent   int
}

var (
	addrA = netip.MustParseAddr("192.0.2.1")
	addrB = netip.MustParseAddr("192.0.2.2")
)

func ap(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }

// chacha is a source of entropy that repeats.
func chacha(seed uint64, n byte) io.Reader {
	var key [32]byte
	binary.BigEndian.PutUint64(key[:], seed)
	key[31] = n
	return rand.NewChaCha8(key)
}

func newNode(t testing.TB, name string, cfg Config, entropy io.Reader) *node {
	t.Helper()
	signer, err := identity.NewEd25519(entropy)
	if err != nil {
		t.Fatal(err)
	}
	n := &node{
		Endpoint: New(cfg, entropy), name: name, signer: signer,
		local:  Local{ID: identity.Null(), Method: Signature, Key: signer, SendKey: true},
		remote: Remote{AnyKey: true},
		offer: []protect.Suite{
			{Encr: protect.AESGCM16, KeyBits: 128, ESN: true},
			{Encr: protect.ChaCha20Poly1305, KeyBits: 256, ESN: true},
		},
		mode:     protect.Transport,
		children: map[ChildID]ChildUp{}, using: map[ChildID]bool{}, up: map[Handle]SAUp{},
	}
	return n
}

// plain is a configuration without ML-KEM, so that a seed has one trace and handshakes are quick.
func plain() Config {
	return Config{IKE: DefaultProposals(true)[1:]}
}

func newPair(t testing.TB, seed uint64, cfgA, cfgB Config) *pair {
	t.Helper()
	p := &pair{
		t: t, now: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC), delay: 10 * time.Millisecond,
		dice: rand.New(rand.NewPCG(seed, 1)), record: true,
	}
	p.a = newNode(t, "a", cfgA, chacha(seed, 'a'))
	p.b = newNode(t, "b", cfgB, chacha(seed, 'b'))
	t.Cleanup(func() {
		if t.Failed() && os.Getenv("LADDER") != "off" {
			if len(p.log) > 0 {
				t.Logf("seed %d\n%s", seed, strings.Join(p.log, "\n"))
			}
		}
	})
	return p
}

func (p *pair) logf(format string, args ...any) {
	if p.record && len(p.log) < 2000 {
		p.log = append(p.log, fmt.Sprintf("%9.3fs ", p.now.Sub(time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)).Seconds())+fmt.Sprintf(format, args...))
	}
}

func (p *pair) other(n *node) *node {
	if n == p.a {
		return p.b
	}
	return p.a
}

// step feeds one event and everything that it brings about at once.
func (p *pair) step(n *node, ev Event) {
	queue := []Event{ev}
	for len(queue) > 0 {
		ev, queue = queue[0], queue[1:]
		for _, a := range n.Step(p.now, ev, nil) {
			queue = append(queue, p.act(n, a)...)
		}
		p.invariants(n)
	}
}

func (p *pair) act(n *node, a Action) []Event {
	switch a := a.(type) {
	case Send:
		p.sent++
		p.transmit(n, a)
		return nil
	case Compute:
		if n.hold {
			n.jobs = append(n.jobs, a.Job)
			return nil
		}
		a.Job.Run()
		return []Event{Computed(a)}
	}
	p.logf("%s %s", n.name, describe(a))
	n.acts = append(n.acts, a)
	switch a := a.(type) {
	case FindCredential:
		if n.credential != nil {
			return []Event{n.credential(a)}
		}
		return []Event{Credential{SA: a.SA, Local: n.local, Remote: n.remote}}
	case JudgePeer:
		v := PeerJudged{SA: a.SA, Known: n.known}
		if n.judgePeer != nil {
			v.Refuse = n.judgePeer(a)
		}
		return []Event{v}
	case JudgeChild:
		n.spi++
		v := ChildJudged{
			SA: a.SA, Child: a.Child, SPI: 0x1000 + n.spi, Local: a.Local, Remote: a.Remote, Mode: a.Mode,
			Offer: n.offer, KE: n.kes, Lifetime: n.life,
		}
		if n.judgeChild != nil {
			v = n.judgeChild(a, v)
		}
		return []Event{v}
	case SAUp:
		n.up[a.SA] = a
	case SADown:
		delete(n.up, a.SA)
		n.down = append(n.down, a)
	case ChildUp:
		n.children[a.Child] = a
		n.using[a.Child] = a.UseNow
	case ChildUse:
		n.using[a.Child] = true
	case ChildDown:
		delete(n.children, a.Child)
		delete(n.using, a.Child)
	}
	return nil
}

func describe(a Action) string {
	s := fmt.Sprintf("%T", a)
	s = strings.TrimPrefix(s, "ikev2.")
	switch a := a.(type) {
	case Notice:
		return fmt.Sprintf("%s %v: %s", s, a.Reason, a.Text)
	case SADown:
		return fmt.Sprintf("%s %d up=%v peer=%v err=%v", s, a.SA, a.WasUp, a.Peer, a.Err)
	case ChildUp:
		return fmt.Sprintf("%s %d replaces %d in=%x out=%x use=%v %v %v", s, a.Child, a.Replaces, a.SPIIn, a.SPIOut, a.UseNow, a.Local, a.Remote)
	case ChildDown:
		return fmt.Sprintf("%s %d linger=%v err=%v", s, a.Child, a.Linger, a.Err)
	case ChildUse:
		return fmt.Sprintf("%s %d", s, a.Child)
	case ChildFailed:
		return fmt.Sprintf("%s %d: %v", s, a.Child, a.Err)
	case JudgeChild:
		return fmt.Sprintf("%s %d stage=%d rekeys=%d %v local=%v remote=%v", s, a.Child, a.Stage, a.Rekeys, a.Mode, a.Local, a.Remote)
	case SAUp:
		return fmt.Sprintf("%s %d initiator=%v %v nat=%+v btns=%v", s, a.SA, a.Initiator, a.Suite, a.NAT, a.Btns)
	}
	return s
}

func (p *pair) transmit(from *node, s Send) {
	list := []Send{s}
	if p.carry != nil {
		list = p.carry(from, s)
	}
	h, _ := wire.ParseHeader(s.Data)
	kind := "request"
	if h.Response() {
		kind = "response"
	}
	p.logf("%s -> %v %v %d %s, %d octets, SPIs %x %x", from.name, s.Remote, h.Exchange, h.MessageID, kind, len(s.Data), h.SPIi>>48, h.SPIr>>48)
	for _, s := range list {
		for {
			if p.loss > 0 && p.dice.Float64() < p.loss {
				p.logf("   lost")
			} else {
				p.fly(p.other(from), Datagram{Local: s.Remote, Remote: s.Local, Data: s.Data})
			}
			if p.dup == 0 || p.dice.Float64() >= p.dup {
				break
			}
		}
	}
}

// fly delivers a datagram after the delay of the wire.
func (p *pair) fly(to *node, d Datagram) {
	at := p.now.Add(p.delay)
	if p.wobble > 0 {
		at = at.Add(time.Duration(p.dice.Int64N(int64(p.wobble))))
	}
	p.seq++
	heap.Push(&p.sky, flight{at: at, seq: p.seq, to: to, d: d})
}

// next does the next thing that happens before limit.
func (p *pair) next(limit time.Time) bool {
	at, what := limit, (func())(nil)
	if len(p.sky) > 0 && !p.sky[0].at.After(at) {
		at = p.sky[0].at
		what = func() {
			f := heap.Pop(&p.sky).(flight)
			data := append([]byte(nil), f.d.Data...)
			p.step(f.to, Datagram{f.d.Local, f.d.Remote, data})
			for i := range data { // the endpoint does not keep Data
				data[i] = 0xAA
			}
		}
	}
	for _, n := range []*node{p.a, p.b} {
		if d, ok := n.Deadline(); ok && d.Before(at) {
			at, what = d, func() { p.step(n, Tick{}) }
		}
	}
	if what == nil {
		p.now = limit
		return false
	}
	if at.After(p.now) {
		p.now = at
	}
	what()
	return true
}

// run lets d pass.
func (p *pair) run(d time.Duration) {
	limit := p.now.Add(d)
	for n := 0; p.next(limit); n++ {
		if n > 200000 {
			p.t.Fatal("no end: the same moment for ever")
		}
	}
}

// until runs until ok or for d.
func (p *pair) until(d time.Duration, ok func() bool) bool {
	limit := p.now.Add(d)
	for n := 0; !ok(); n++ {
		if n > 200000 || !p.next(limit) {
			return ok()
		}
	}
	return true
}

// invariants of an endpoint between any two steps.
func (p *pair) invariants(n *node) {
	e := n.Endpoint
	half := 0
	for spi, s := range e.bySPI {
		if s.gone || s.ourSPI() != spi {
			p.t.Fatalf("%s: index holds an SA that is gone or misplaced", n.name)
		}
		if s.counted != nil {
			half++
		}
		if s.dirty {
			p.t.Fatalf("%s: an SA is still dirty after a step", n.name)
		}
	}
	if half != e.front.halfOpen {
		p.t.Fatalf("%s: %d half-open SAs counted, there are %d", n.name, e.front.halfOpen, half)
	}
	for i, s := range e.wheel {
		if s.gone || int(s.slot) != i {
			p.t.Fatalf("%s: the wheel holds an SA that is gone", n.name)
		}
	}
	for h, s := range e.sessions {
		if s.handle != h || s.current == nil || s.current.gone {
			p.t.Fatalf("%s: session %d without an IKE SA", n.name, h)
		}
	}
	if e.stats.SAs != len(n.up) {
		p.t.Fatalf("%s: %d SAs counted, %d reported up", n.name, e.stats.SAs, len(n.up))
	}
}

// request is a child between the two addresses.
func (p *pair) request(n *node) *ChildRequest {
	n.spi++
	l, r := addrA, addrB
	if n == p.b {
		l, r = r, l
	}
	return &ChildRequest{
		ID: n.NewChild(), SPI: 0x1000 + n.spi, Local: selector.Set{selector.Host(l)}, Remote: selector.Set{selector.Host(r)},
		Mode: n.mode, Offer: n.offer, Lifetime: n.life,
	}
}

// initiation is what a node says to begin with the other one; change it before use.
func (p *pair) initiation(n *node) Initiate {
	l, r := addrA, addrB
	if n == p.b {
		l, r = r, l
	}
	return Initiate{
		SA: n.NewHandle(), Local: ap(l, portIKE), Remote: ap(r, portIKE), Credential: n.local, Child: p.request(n),
	}
}

// connect makes an IKE SA with a child and returns both handles.
func (p *pair) connect() (a, b Handle) {
	p.t.Helper()
	i := p.initiation(p.a)
	p.step(p.a, i)
	p.run(2 * time.Second)
	if len(p.a.up) != 1 || len(p.b.up) != 1 {
		p.t.Fatalf("not up: a %d, b %d", len(p.a.up), len(p.b.up))
	}
	p.matched()
	for h := range p.b.up {
		b = h
	}
	return i.SA, b
}

// matched checks that both sides have the same children with the same keys.
func (p *pair) matched() {
	p.t.Helper()
	if len(p.a.children) != len(p.b.children) {
		p.t.Fatalf("a has %d children, b %d", len(p.a.children), len(p.b.children))
	}
	for _, c := range p.a.children {
		found := false
		for _, d := range p.b.children {
			if c.SPIIn != d.SPIOut {
				continue
			}
			found = true
			if c.SPIOut != d.SPIIn || !reflect.DeepEqual(c.KeysIn, d.KeysOut) || !reflect.DeepEqual(c.KeysOut, d.KeysIn) ||
				c.Suite != d.Suite || c.Mode != d.Mode || len(c.KeysIn.Encr) == 0 {
				p.t.Fatalf("children do not fit: %s and %s", describe(c), describe(d))
			}
		}
		if !found {
			p.t.Fatalf("b has no counterpart of %s", describe(c))
		}
	}
}

// one returns the only child of n.
func (n *node) one(t testing.TB) ChildUp {
	t.Helper()
	if len(n.children) != 1 {
		t.Fatalf("%s has %d children", n.name, len(n.children))
	}
	for _, c := range n.children {
		return c
	}
	return ChildUp{}
}

func count[T Action](n *node) (k int) {
	for _, a := range n.acts {
		if _, ok := a.(T); ok {
			k++
		}
	}
	return k
}

func last[T Action](n *node) (v T, ok bool) {
	for _, a := range n.acts {
		if x, is := a.(T); is {
			v, ok = x, true
		}
	}
	return v, ok
}
