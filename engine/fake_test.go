package engine

import (
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/dataplane"
	"github.com/btns-ipsec/btns/dataplane/flow"
	"github.com/btns-ipsec/btns/host"
	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/selector"
	"github.com/btns-ipsec/btns/trust"
)

// brain is a host whose answers the test chooses. The loop owns it; the test looks at what it took through events.
type brain struct {
	own     host.OwnView
	answer  func(host.Event) []host.Action
	due     time.Time
	state   host.PeerState
	since   time.Time
	records []trust.Record
	compare host.CompareView

	mu     sync.Mutex
	events []host.Event
	at     []time.Time
}

func (b *brain) Start(_ time.Time, out []host.Action) []host.Action { return out }

func (b *brain) Step(now time.Time, ev host.Event, out []host.Action) []host.Action {
	b.mu.Lock()
	b.events = append(b.events, ev)
	b.at = append(b.at, now)
	b.mu.Unlock()
	if !b.due.IsZero() && !now.Before(b.due) {
		b.due = time.Time{}
	}
	if b.answer == nil {
		return out
	}
	return append(out, b.answer(ev)...)
}

func (b *brain) Deadline() (time.Time, bool)                      { return b.due, !b.due.IsZero() }
func (b *brain) Status(time.Time) host.StatusView                 { return host.StatusView{} }
func (b *brain) Comparing(time.Time, netip.Addr) host.CompareView { return b.compare }
func (b *brain) Own() host.OwnView                                { return b.own }
func (b *brain) Records() []trust.Record                          { return b.records }
func (b *brain) Peers(time.Time) []host.PeerView {
	return []host.PeerView{{Addr: remote, State: b.state, Since: b.since, Children: make([]host.ChildView, 2)}}
}

func (b *brain) TestPolicy(_ time.Time, f selector.Flow) host.PolicyTest {
	return host.PolicyTest{Flow: f, Entry: "everything else"}
}

func (b *brain) Explain(_ time.Time, addr netip.Addr, _ uint16) host.Explanation {
	return host.Explanation{Addr: addr, State: b.state}
}

func (b *brain) seen() []host.Event {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]host.Event(nil), b.events...)
}

// fakePlane writes down what it is told.
type fakePlane struct {
	sink     func(dataplane.Event)
	refuse   error
	refuseID flow.PairID // UseSA of it fails; 0: none

	mu   sync.Mutex
	told []any // []dataplane.Change, netip.AddrPort for a message, "keepalive", "closed"
}

func (p *fakePlane) note(what any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.told = append(p.told, what)
}

func (p *fakePlane) all() []any {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]any(nil), p.told...)
}

func (p *fakePlane) Apply(changes []dataplane.Change) error {
	for n, c := range changes {
		if use, ok := c.(dataplane.UseSA); ok && use.ID == p.refuseID && p.refuseID != 0 {
			p.note(append([]dataplane.Change(nil), changes[:n]...))
			return &dataplane.ChangeError{Index: n, Change: c, Err: errBroken}
		}
	}
	p.note(append([]dataplane.Change(nil), changes...))
	return p.refuse
}

func (p *fakePlane) Send(_, remote netip.AddrPort, _ []byte) error {
	p.note(remote)
	return p.refuse
}

func (p *fakePlane) Keepalive(_, _ netip.AddrPort) error {
	p.note("keepalive")
	return nil
}

func (p *fakePlane) Counters(buf []dataplane.Counters) []dataplane.Counters {
	return append(buf, dataplane.Counters{ID: 7})
}

func (p *fakePlane) Cleared(buf []dataplane.Cleared) []dataplane.Cleared {
	return append(buf, dataplane.Cleared{Tally: 3, Packets: 2, Bytes: 100})
}

func (p *fakePlane) Source(to netip.Addr) (netip.Addr, error) {
	if to != remote {
		return netip.Addr{}, errNoRoute
	}
	return local, nil
}

func (p *fakePlane) Info() dataplane.Info { return dataplane.Info{Name: "fake"} }

func (p *fakePlane) Close() error {
	p.note("closed")
	return nil
}

// memoryStore keeps what it is given.
type memoryStore struct {
	mu      sync.Mutex
	fail    error
	batches [][]trust.Change
	closed  bool
}

func (s *memoryStore) Apply(changes ...trust.Change) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return s.fail
	}
	s.batches = append(s.batches, changes)
	return nil
}

func (s *memoryStore) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}

func (s *memoryStore) written() (all []trust.Change) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.batches {
		all = append(all, b...)
	}
	return all
}

func (s *memoryStore) setFail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = err
}

var (
	remote     = netip.MustParseAddr("192.0.2.7")
	local      = netip.MustParseAddr("192.0.2.1")
	errNoRoute = errors.New("no route")
	errBroken  = errors.New("broken")
)

// rig is an engine on fakes.
type rig struct {
	*Engine
	brain *brain
	plane *fakePlane
	store *memoryStore
}

// start must run in a synctest bubble, which fails the test if a goroutine is left at its end. A stop is answered at
// once, unless the test answers.
func start(t *testing.T, answer func(host.Event) []host.Action) *rig {
	t.Helper()
	return startOn(t, func(*Config) {}, answer)
}

// startOn is start with another configuration.
func startOn(t *testing.T, edit func(*Config), answer func(host.Event) []host.Action) *rig {
	t.Helper()
	r := &rig{brain: &brain{}, plane: &fakePlane{}, store: &memoryStore{}}
	r.brain.answer = func(ev host.Event) (out []host.Action) {
		if answer != nil {
			out = answer(ev)
		}
		if _, ok := ev.(host.Stop); ok && out == nil {
			out = []host.Action{host.Stopped{}}
		}
		return out
	}
	key, err := identity.NewEd25519(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := Config{
		Host: r.brain, Store: r.store, Workers: 2, Signer: key, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Open: func(sink func(dataplane.Event)) (dataplane.Plane, error) {
			r.plane.sink = sink
			return r.plane, nil
		},
	}
	edit(&c)
	e, err := Start(c)
	if err != nil {
		t.Fatal(err)
	}
	r.Engine = e
	return r
}

func (r *rig) close(t *testing.T) {
	t.Helper()
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}
