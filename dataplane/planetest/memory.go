package planetest

import (
	"errors"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/btns-ipsec/btns/dataplane"
	"github.com/btns-ipsec/btns/dataplane/flow"
	"github.com/btns-ipsec/btns/esp"
	"github.com/btns-ipsec/btns/selector"
)

const (
	pathMTU  = 1500
	maxHeld  = 16 // packets that wait, for one address
	maxHolds = 64 // addresses for which packets wait
	quiet    = time.Second
)

// Config is what a Memory is made from. The functions are called without a lock held and must not block.
type Config struct {
	Addrs   []netip.Addr          // of the host, of either family
	Wire    func(Wired)           // a packet goes out
	Deliver func(pkt []byte)      // a packet goes to an application
	Event   func(dataplane.Event) // as a plane reports it
	Now     func() time.Time      // nil: time.Now
}

// Memory is a plane in memory: package flow and the bookkeeping of the contract. It may be used from many goroutines.
type Memory struct {
	cfg   Config
	rules rules

	mu      sync.Mutex
	closed  bool
	table   *flow.Table
	held    map[netip.Addr][][]byte
	limited map[any]*limit
	cleared map[uint32]dataplane.Cleared
	effects []func()
}

type limit struct {
	next  time.Time
	count uint64
}

var _ dataplane.Plane = (*Memory)(nil)

// NewMemory makes a plane without SAs.
func NewMemory(c Config) *Memory {
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Memory{
		cfg: c, rules: goodRules(), table: flow.NewTable(),
		held: make(map[netip.Addr][][]byte), limited: make(map[any]*limit),
		cleared: make(map[uint32]dataplane.Cleared),
	}
}

// do runs f under the lock, then what f wants done outside.
func (m *Memory) do(f func()) {
	m.mu.Lock()
	f()
	todo := m.effects
	m.effects = nil
	m.mu.Unlock()
	for _, e := range todo {
		e()
	}
}

func (m *Memory) event(e dataplane.Event) {
	if m.cfg.Event != nil {
		m.effects = append(m.effects, func() { m.cfg.Event(e) })
	}
}

func (m *Memory) wire(w Wired) {
	if m.cfg.Wire != nil {
		m.effects = append(m.effects, func() { m.cfg.Wire(w) })
	}
}

func (m *Memory) deliver(pkt []byte) {
	if m.cfg.Deliver != nil {
		m.effects = append(m.effects, func() { m.cfg.Deliver(pkt) })
	}
}

// once counts under a key and, at most once a second, says how many there were.
func (m *Memory) once(key any) (count uint64, now bool) {
	l := m.limited[key]
	if l == nil {
		l = &limit{}
		m.limited[key] = l
	}
	l.count++
	t := m.cfg.Now()
	if t.Before(l.next) && !m.rules.storm {
		return 0, false
	}
	l.next = t.Add(quiet)
	count, l.count = l.count, 0
	return count, true
}

type dropKey struct {
	remote netip.Addr
	reason flow.Reason
}

type acquireKey struct{ remote netip.Addr }

func (m *Memory) drop(r flow.Reason, f selector.Flow) {
	if n, ok := m.once(dropKey{f.Remote, r}); ok {
		m.event(dataplane.Dropped{Remote: f.Remote, Reason: r, Count: n, Sample: f})
	}
}

func (m *Memory) acquire(f selector.Flow, held bool) {
	if f.Remote.IsMulticast() || f.Remote.IsLinkLocalUnicast() {
		return
	}
	if _, ok := m.once(acquireKey{f.Remote}); ok {
		m.event(dataplane.Acquire{Flow: f, Held: held})
	}
}

// Apply is [dataplane.Plane].
func (m *Memory) Apply(changes []dataplane.Change) (err error) {
	m.do(func() {
		if m.closed {
			err = errors.New("planetest: the plane is closed")
			return
		}
		m.table, err = m.rules.apply(m.table, changes)
		m.rules.recount(m.table, m.cleared)
		m.release()
	})
	return err
}

// release sends the packets that need not wait any longer.
func (m *Memory) release() {
	for _, to := range slices.SortedFunc(maps.Keys(m.held), netip.Addr.Compare) {
		waiting := m.held[to]
		delete(m.held, to)
		for i, pkt := range waiting {
			f, info, err := flow.ParseFlow(pkt, true)
			if err == nil && m.rules.out(m.table, &f, pkt, &info).Action == flow.Queue {
				m.held[to] = append(m.held[to], waiting[i])
				continue
			}
			m.send(pkt)
		}
	}
}

// FromApp takes a packet that an application on the host sends.
func (m *Memory) FromApp(pkt []byte) { m.do(func() { m.send(slices.Clone(pkt)) }) }

func (m *Memory) send(pkt []byte) {
	f, i, err := flow.ParseFlow(pkt, true)
	if err != nil {
		m.drop(flow.Malformed, f)
		return
	}
	switch v := m.rules.out(m.table, &f, pkt, &i); v.Action {
	case flow.Pass:
		m.count(f, i)
		m.wire(Wired{Kind: Clear, From: netip.AddrPortFrom(f.Local, 0), To: netip.AddrPortFrom(f.Remote, 0), TOS: i.TOS, Data: pkt})
		m.acquire(f, false)
	case flow.Queue:
		m.hold(f, pkt)
	case flow.Seal:
		m.seal(v.Pair, f, pkt, &i)
	default:
		m.drop(v.Reason, f)
		if v.Reason == flow.NoSA && !m.rules.mute {
			m.acquire(f, false)
		}
	}
}

// count notes a packet that leaves in clear.
func (m *Memory) count(f selector.Flow, i flow.PacketInfo) {
	if n := m.rules.tally(m.table, &f); n != 0 {
		c := m.cleared[n]
		m.cleared[n] = dataplane.Cleared{Tally: n, Packets: c.Packets + 1, Bytes: c.Bytes + uint64(i.TotalLen)}
	}
}

// recount forgets the numbers that no rule has.
func recount(t *flow.Table, cleared map[uint32]dataplane.Cleared) {
	maps.DeleteFunc(cleared, func(n uint32, _ dataplane.Cleared) bool {
		return !slices.ContainsFunc(t.Rules(), func(r flow.Rule) bool { return r.Tally == n })
	})
}

func (m *Memory) hold(f selector.Flow, pkt []byte) {
	q := m.held[f.Remote]
	if len(q) >= m.rules.maxHeld || q == nil && len(m.held) >= maxHolds {
		m.drop(flow.QueueFull, f)
	} else {
		m.held[f.Remote] = append(q, pkt)
	}
	m.acquire(f, true)
}

func (m *Memory) seal(p *flow.Pair, f selector.Flow, pkt []byte, i *flow.PacketInfo) {
	if mtu := p.InnerMTU(pathMTU); i.TotalLen > mtu {
		m.drop(flow.TooBig, f)
		if e := flow.PacketTooBig(nil, pkt, f.Remote, mtu); e != nil {
			m.deliver(e)
		}
		return
	}
	payload, _, r := p.Payload(pkt, i)
	var sealed []byte
	if r == flow.NoReason {
		sealed, r = p.SealPacket(nil, pkt, i)
	}
	if r != flow.NoReason {
		if r == flow.SpentSA {
			m.reached(p, p.Spend())
		}
		m.drop(r, f)
		return
	}
	m.wire(Wired{Kind: ESP, From: p.OuterLocal, To: p.OuterRemote, TOS: m.rules.tos(p, i.TOS), Data: sealed})
	m.reached(p, m.rules.countOut(p, uint64(len(payload)), m.cfg.Now().UnixNano()))
}

func (m *Memory) reached(p *flow.Pair, r flow.Reached) {
	if r&flow.First != 0 {
		m.event(dataplane.Carried{ID: p.ID})
	}
	if r&flow.SoftLimit != 0 {
		m.event(dataplane.Spent{ID: p.ID})
	}
	if r&flow.HardLimit != 0 {
		m.event(dataplane.Spent{ID: p.ID, Hard: true})
	}
}

// FromNet takes a packet that arrives from the network.
func (m *Memory) FromNet(w Wired) {
	w.Data = slices.Clone(w.Data)
	m.do(func() {
		switch w.Kind {
		case IKE:
			m.event(dataplane.Datagram{Local: w.To, Remote: w.From, Data: m.rules.message(w.Data)})
		case ESP:
			m.receive(w)
		case Clear:
			f, _, err := flow.ParseFlow(w.Data, false)
			if err != nil {
				m.drop(flow.Malformed, f)
				return
			}
			if v := m.rules.inClear(m.table, &f); v.Action != flow.Accept {
				m.drop(v.Reason, f)
				return
			}
			m.deliver(w.Data)
		}
	})
}

type unknownKey struct{ remote netip.AddrPort }

func (m *Memory) receive(w Wired) {
	pkt, p, r := m.rules.open(m.table, w)
	if p == nil {
		m.drop(r, selector.Flow{Local: w.To.Addr(), Remote: w.From.Addr()})
		if r == flow.UnknownSPI {
			if _, ok := m.once(unknownKey{w.From}); ok {
				m.event(dataplane.UnknownSPI{Local: w.To, Remote: w.From, SPI: spiOf(w.Data)})
			}
		}
		return
	}
	if r == flow.NoReason || r == flow.Dummy {
		m.reached(p, m.rules.countIn(p, uint64(max(len(pkt)-p.HeadRoom(), 0)), m.cfg.Now().UnixNano()))
		if m.rules.moved(p, w, r) {
			m.event(dataplane.Moved{ID: p.ID, Remote: w.From})
		}
	}
	if r != flow.NoReason {
		p.Drop()
		m.drop(r, selector.Flow{Local: w.To.Addr(), Remote: w.From.Addr()})
		return
	}
	m.deliver(pkt)
}

// Send is [dataplane.Plane].
func (m *Memory) Send(local, remote netip.AddrPort, b []byte) error {
	m.do(func() { m.wire(Wired{Kind: IKE, From: local, To: remote, Data: slices.Clone(b)}) })
	return nil
}

// Keepalive is [dataplane.Plane].
func (m *Memory) Keepalive(local, remote netip.AddrPort) error {
	m.do(func() { m.wire(Wired{Kind: Keepalive, From: local, To: remote, Data: []byte{0xff}}) })
	return nil
}

// Counters is [dataplane.Plane].
func (m *Memory) Counters(buf []dataplane.Counters) []dataplane.Counters {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.table.Pairs(func(p *flow.Pair) bool {
		u := p.Usage()
		buf = append(buf, dataplane.Counters{
			ID: p.ID, PacketsIn: u.PacketsIn, PacketsOut: u.PacketsOut, BytesIn: u.BytesIn, BytesOut: u.BytesOut,
			LastIn: at(u.LastIn), LastOut: at(u.LastOut), Drops: u.Drops,
		})
		return true
	})
	return buf
}

// Cleared is [dataplane.Plane].
func (m *Memory) Cleared(buf []dataplane.Cleared) []dataplane.Cleared {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, n := range slices.Sorted(maps.Keys(m.cleared)) {
		buf = append(buf, m.cleared[n])
	}
	return buf
}

func at(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns)
}

// Source is [dataplane.Plane].
func (m *Memory) Source(remote netip.Addr) (netip.Addr, error) {
	for _, a := range m.cfg.Addrs {
		if a.Is4() == remote.Is4() {
			return a, nil
		}
	}
	return netip.Addr{}, errors.New("planetest: no address of that family")
}

// Info is [dataplane.Plane].
func (m *Memory) Info() dataplane.Info {
	return dataplane.Info{Name: "memory", MTU: pathMTU - esp.HeaderLen - 57}
}

// Close is [dataplane.Plane].
func (m *Memory) Close() error {
	m.do(func() { m.closed, m.table, m.held = true, flow.NewTable(), make(map[netip.Addr][][]byte) })
	return nil
}
