package host

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/dataplane"
	"github.com/btns-ipsec/btns/dataplane/flow"
	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/ikev2"
	"github.com/btns-ipsec/btns/ikev2/suite"
	"github.com/btns-ipsec/btns/policy"
	"github.com/btns-ipsec/btns/protect"
	"github.com/btns-ipsec/btns/selector"
	"github.com/btns-ipsec/btns/trust"
)

// Package sim shows what many hosts do on a network; here one or two of them are led by hand through each branch. A world
// that cannot be told what to lose, and a box whose plane is a list of what it was told, are all there is to it.

var (
	addrA = netip.MustParseAddr("203.0.113.1")
	addrB = netip.MustParseAddr("203.0.113.2")
	addrC = netip.MustParseAddr("203.0.113.3")
	epoch = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
)

var errNoRoute = errors.New("no route to host")

// world is a clock and a wire. Messages arrive when settle is called, at once and in order.
type world struct {
	t     testing.TB
	now   time.Time
	boxes []*box
	lose  func(from *box, s Send) bool // nil: nothing
	mail  []letter
	// endless is a course of events that may end in the midst of a rekey, which waits minutes for its answer.
	endless bool
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, now: epoch}
	t.Cleanup(func() {
		for _, b := range w.boxes {
			if b.h.sas.Reserved() != b.promised() {
				t.Errorf("%s: %d SPIs are reserved, %d promised", b.name, b.h.sas.Reserved(), b.promised())
			}
			if !w.endless && !b.dead && !b.busy() && b.h.sas.Reserved() != 0 { // the clock of a dead one stands still
				t.Errorf("%s: %d SPIs are kept for children that never come", b.name, b.h.sas.Reserved())
			}
		}
	})
	return w
}

// letter is something to come. A datagram may be lost; what a host asked its own engine for is not.
type letter struct {
	run      func()
	datagram bool
}

// box is a host and what it has done so far.
type box struct {
	w    *world
	name string
	addr netip.Addr
	cfg  Config
	h    *Host
	dead bool

	prefixes map[netip.Prefix]flow.State
	order    []flow.State // of every SetPrefix, as it came
	sas      map[flow.PairID]flow.Spec
	using    map[flow.PairID]bool
	counts   map[flow.PairID]dataplane.Counters
	store    map[string]trust.Record
	reports  []Report
	sent     []Send
	readings int
	source   func(netip.Addr) (netip.Addr, error)
	silent   bool // FindSource is not answered
	stopped  int
}

// chance is a reader of a source of chance.
func chance(name string) *rand.ChaCha8 {
	var seed [32]byte
	copy(seed[:], name)
	return rand.NewChaCha8(seed)
}

func key(t testing.TB, name string) identity.Signer {
	t.Helper()
	s, err := identity.NewEd25519(chance("key of " + name))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// quick is one set of algorithms without ML-KEM, whose randomness is the system's.
func quick() ikev2.Config {
	return ikev2.Config{IKE: []ikev2.Proposal{ikev2.ProposalOf(suite.IKE{
		Cipher: suite.Cipher{Encr: protect.AESGCM16, KeyBits: 128}, PRF: suite.PRFSHA256, KE: suite.X25519,
	})}}
}

func defaultPolicy(t testing.TB) *policy.Policy {
	t.Helper()
	p, err := policy.Default()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// unknown is a policy with one rule for all.
func unknown(t testing.TB, u policy.Unknown, pad ...policy.PADEntry) *policy.Policy {
	t.Helper()
	p, err := policy.New(append(policy.Untouchable(), policy.Rest(u)...), append(pad, policy.Anyone()))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (w *world) box(name string, addr netip.Addr, edit ...func(*Config)) *box {
	w.t.Helper()
	b := &box{
		w: w, name: name, addr: addr, store: map[string]trust.Record{},
		cfg: Config{Signer: key(w.t, name), Policy: defaultPolicy(w.t), IKE: quick()},
	}
	b.source = func(netip.Addr) (netip.Addr, error) { return b.addr, nil }
	for _, f := range edit {
		f(&b.cfg)
	}
	w.boxes = append(w.boxes, b)
	b.boot()
	return b
}

// boot starts the host with what its store holds.
func (b *box) boot() {
	b.w.t.Helper()
	b.dead = false
	b.prefixes, b.sas = map[netip.Prefix]flow.State{}, map[flow.PairID]flow.Spec{}
	b.using, b.counts = map[flow.PairID]bool{}, map[flow.PairID]dataplane.Counters{}
	cfg := b.cfg
	for _, id := range slices.Sorted(mapsKeys(b.store)) {
		cfg.Records = append(cfg.Records, b.store[id])
	}
	h, err := New(cfg, chance(fmt.Sprint(b.name, b.w.now.UnixNano())))
	if err != nil {
		b.w.t.Fatal(err)
	}
	b.h = h
	b.take(h.Start(b.w.now, nil))
}

func mapsKeys[V any](m map[string]V) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// step feeds one event and carries out what comes back, without what others do about it.
func (b *box) step(ev Event) {
	if b.dead {
		return
	}
	b.take(b.h.Step(b.w.now, ev, nil))
}

// do is step and all that follows at this moment.
func (b *box) do(ev Event) {
	b.step(ev)
	b.w.settle()
}

func (b *box) plane(ev dataplane.Event) { b.do(FromPlane{ev}) }

func acquireOf(b *box, to netip.Addr) dataplane.Acquire {
	return dataplane.Acquire{Flow: selector.Flow{Proto: 6, Local: b.addr, Remote: to, LocalPort: 40000, RemotePort: 80}}
}

func (b *box) acquire(to netip.Addr) { b.plane(acquireOf(b, to)) }

// later posts what the host as it is now waits for: a restart in between makes it void.
func (b *box) later(f func()) {
	h := b.h
	b.w.mail = append(b.w.mail, letter{run: func() {
		if b.h == h {
			f()
		}
	}})
}

func (b *box) take(acts []Action) {
	for _, a := range acts {
		switch a := a.(type) {
		case Change:
			b.apply(a.Change)
		case Send:
			b.sent = append(b.sent, a)
			b.w.carry(b, a)
		case Compute:
			b.later(func() { a.Job.Run(); b.step(Computed(a)) })
		case Save:
			b.store[a.Record.ID()] = a.Record
		case Erase:
			delete(b.store, a.Record.ID())
		case FindSource:
			if !b.silent {
				b.later(func() {
					local, err := b.source(a.Remote)
					b.step(SourceFound{a.Remote, local, err})
				})
			}
		case ReadCounters:
			b.readings++
			b.later(b.read)
		case KeyTurned: // as an engine keeps it
			b.cfg.Rotation = Rotation{Former: b.cfg.Signer.Public, Turned: b.w.now}
			b.cfg.Signer = a.Key
		case Stopped:
			b.stopped++
		case Report:
			b.reports = append(b.reports, a)
		}
	}
	b.check()
}

// check is what holds after every step: nothing that must be protected is let out in clear once there is a rule for it,
// and every SPI that is kept is promised to somebody.
func (b *box) check() {
	b.w.t.Helper()
	for _, p := range b.h.peers {
		own := p.trouble().why == "this is an address of this host itself"
		for _, prefix := range p.prefixes() {
			if b.effective(prefix.Addr()) == flow.Clear && b.h.required(b.w.now, p) && !own {
				b.w.t.Fatalf("%s: %v must be protected and goes in clear in state %v (%s)\n%s", b.name, prefix, p.state, p.trouble().why, b.story())
			}
		}
	}
	if n := b.h.sas.Reserved(); n != b.promised() {
		b.w.t.Fatalf("%s: %d SPIs are reserved, %d promised", b.name, n, b.promised())
	}
}

// effective is what the plane does with an address, by the longest prefix.
func (b *box) effective(addr netip.Addr) flow.State {
	state, bits := flow.Clear, -1
	for p, s := range b.prefixes {
		if p.Contains(addr) && p.Bits() > bits {
			state, bits = s, p.Bits()
		}
	}
	return state
}

func (b *box) promised() (n int) {
	for _, s := range b.h.sessions {
		n += len(s.promised)
	}
	return n
}

// busy reports whether a handshake or an exchange is under way.
func (b *box) busy() bool {
	for _, s := range b.h.sessions {
		if !s.up {
			return true
		}
	}
	return len(b.w.mail) > 0
}

func (b *box) apply(c dataplane.Change) {
	switch c := c.(type) {
	case dataplane.SetPrefix:
		b.prefixes[c.Prefix] = c.State
		b.order = append(b.order, c.State)
	case dataplane.AddSA:
		b.sas[c.Spec.ID] = c.Spec
		b.counts[c.Spec.ID] = dataplane.Counters{ID: c.Spec.ID}
	case dataplane.UseSA:
		b.using[c.ID] = true
	case dataplane.RetireSA:
		delete(b.using, c.ID)
	case dataplane.RemoveSA:
		delete(b.sas, c.ID)
		delete(b.using, c.ID)
		delete(b.counts, c.ID)
	case dataplane.MoveSA:
		s := b.sas[c.ID]
		s.OuterRemote = c.Remote
		b.sas[c.ID] = s
	}
}

func (b *box) read() {
	var list []dataplane.Counters
	for _, c := range b.counts {
		list = append(list, c)
	}
	slices.SortFunc(list, func(x, y dataplane.Counters) int { return int(x.ID) - int(y.ID) })
	b.step(CountersRead{list})
}

func (w *world) carry(from *box, s Send) {
	if w.lose != nil && w.lose(from, s) {
		return
	}
	for _, to := range w.boxes {
		if to.addr == s.Remote.Addr() && to != from && !to.dead {
			w.mail = append(w.mail, letter{datagram: true, run: func() {
				to.step(FromPlane{dataplane.Datagram{Local: s.Remote, Remote: s.Local, Data: slices.Clone(s.Data)}})
			}})
		}
	}
}

// settle lets everything happen that takes no time.
func (w *world) settle() {
	w.t.Helper()
	for n := 0; len(w.mail) > 0; n++ {
		if n > 20000 {
			w.t.Fatal("it never ends")
		}
		next := w.mail[0]
		w.mail = w.mail[1:]
		next.run()
	}
}

// pass lets time go by, from deadline to deadline.
func (w *world) pass(d time.Duration) {
	w.t.Helper()
	end := w.now.Add(d)
	for range 20000 {
		w.settle()
		next, due := end, false
		for _, b := range w.boxes {
			if at, ok := b.h.Deadline(); ok && !b.dead && !at.After(next) {
				next, due = at, true
			}
		}
		if next.After(w.now) {
			w.now = next
		}
		if !due {
			return
		}
		for _, b := range w.boxes {
			if at, ok := b.h.Deadline(); ok && !b.dead && !at.After(w.now) {
				b.step(Tick{})
			}
		}
	}
	w.t.Fatalf("deadlines without end in %v", d)
}

// packet moves one packet under the pair that sends from b to o: the newest one.
func (b *box) packet(o *box) {
	b.w.t.Helper()
	ids := slices.Collect(maps.Keys(b.using))
	slices.SortFunc(ids, func(x, y flow.PairID) int { return int(y) - int(x) })
	for _, id := range ids {
		spec := b.sas[id]
		if !spec.Remote.Covers(selector.Set{selector.Host(o.addr)}) {
			continue
		}
		c := b.counts[id]
		c.PacketsOut++
		c.LastOut = b.w.now
		b.counts[id] = c
		for there, s := range o.sas {
			if s.SPIIn == spec.SPIOut && !o.dead {
				c := o.counts[there]
				c.PacketsIn++
				c.LastIn = o.w.now
				o.counts[there] = c
				if c.PacketsIn == 1 {
					o.plane(dataplane.Carried{ID: there})
				}
				return
			}
		}
		if !o.dead {
			o.plane(dataplane.UnknownSPI{
				Local: netip.AddrPortFrom(o.addr, 4500), Remote: netip.AddrPortFrom(b.addr, 4500), SPI: spec.SPIOut,
			})
		}
		return
	}
}

// meet makes two boxes that are protected, have exchanged packets and recorded each other.
func (w *world) meet(edit ...func(*Config)) (a, b *box) {
	w.t.Helper()
	a, b = w.box("a", addrA, edit...), w.box("b", addrB)
	a.acquire(addrB)
	w.talk(a, b)
	if len(a.store) != 1 || len(b.store) != 1 {
		w.t.Fatalf("a has recorded %d keys, b %d", len(a.store), len(b.store))
	}
	return a, b
}

// talk moves packets both ways for a few seconds.
func (w *world) talk(a, b *box) {
	w.t.Helper()
	for range 3 {
		a.packet(b)
		b.packet(a)
		w.pass(time.Second)
	}
}

// sole is the one pair that b sends under.
func (b *box) sole() flow.PairID {
	b.w.t.Helper()
	if len(b.using) != 1 {
		b.w.t.Fatalf("%s sends under %d pairs", b.name, len(b.using))
	}
	for id := range b.using {
		return id
	}
	return 0
}

func (b *box) kill() { b.dead = true }

// state is what the host makes of an address; clear when it knows nothing of it.
func (b *box) state(addr netip.Addr) PeerState {
	if p := b.h.peers[addr]; p != nil {
		return p.state
	}
	return StateClear
}

func (b *box) prefix(addr netip.Addr) flow.State {
	if s, ok := b.prefixes[netip.PrefixFrom(addr, addr.BitLen())]; ok {
		return s
	}
	return flow.Clear
}

// want fails unless the peer is in that state and the plane does that with its address.
func (b *box) want(addr netip.Addr, s PeerState, f flow.State) {
	b.w.t.Helper()
	if b.state(addr) != s || b.prefix(addr) != f {
		why := ""
		if p := b.h.peers[addr]; p != nil {
			why = p.trouble().why
		}
		b.w.t.Fatalf("%s: %v is %v and %v (%s), want %v and %v\n%s", b.name, addr, b.state(addr), b.prefix(addr), why, s, f, b.story())
	}
}

func (b *box) story() string {
	var s strings.Builder
	for _, r := range b.reports {
		fmt.Fprintf(&s, "%v %v %v %s\n", r.Time.Sub(epoch), r.Kind, r.Remote, r.Text)
	}
	return s.String()
}

func (b *box) count(k Kind) (n int) {
	for _, r := range b.reports {
		if r.Kind == k {
			n++
		}
	}
	return n
}

// exchanges counts what b sent of one exchange type.
func (b *box) exchanges(x byte) (n int) {
	for _, s := range b.sent {
		if s.Data[18] == x && s.Data[19]&0x20 == 0 {
			n++
		}
	}
	return n
}

const (
	ikeSAInit     = 34
	createChildSA = 36
	informational = 37
)

// nobody is a wire that ends at the first host.
func nobody(*box, Send) bool { return true }
