package planetest

import (
	"net/netip"
	"slices"
	"sync"

	"github.com/btns-ipsec/btns/dataplane"
)

// Network joins Memory planes by address. Packets to nobody are lost.
type Network struct {
	mu     sync.Mutex
	hosts  map[netip.Addr]*Memory
	filter func(Wired) bool
	log    []Wired
}

// NewNetwork is a network without hosts.
func NewNetwork() *Network { return &Network{hosts: make(map[netip.Addr]*Memory)} }

// Filter makes packets for which f returns false be lost; nil loses none.
func (n *Network) Filter(f func(Wired) bool) {
	n.mu.Lock()
	n.filter = f
	n.mu.Unlock()
}

// Log is every packet so far, the lost ones too.
func (n *Network) Log() []Wired {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.log)
}

// Join makes a plane on the network. c.Wire is replaced.
func (n *Network) Join(c Config) *Memory {
	c.Wire = n.carry
	m := NewMemory(c)
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, a := range c.Addrs {
		n.hosts[a] = m
	}
	return m
}

func (n *Network) carry(w Wired) {
	n.mu.Lock()
	n.log = append(n.log, w)
	to := n.hosts[w.To.Addr()]
	if n.filter != nil && !n.filter(w) {
		to = nil
	}
	n.mu.Unlock()
	if to != nil {
		to.FromNet(w)
	}
}

// memoryHarness is a Memory of which the test is the only peer.
type memoryHarness struct {
	*Memory
	mu   sync.Mutex
	seen Seen
}

var ends = [...]netip.Addr{
	netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"),
	netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2"),
}

// NewMemoryHarness is the reference plane, ready for [Run].
func NewMemoryHarness() Harness { return newHarness(goodRules()) }

func newHarness(r rules) Harness {
	h := &memoryHarness{}
	note := func(f func(*Seen)) {
		h.mu.Lock()
		f(&h.seen)
		h.mu.Unlock()
	}
	h.Memory = NewMemory(Config{
		Addrs:   []netip.Addr{ends[0], ends[2]},
		Wire:    func(w Wired) { note(func(s *Seen) { s.Wire = append(s.Wire, w) }) },
		Deliver: func(p []byte) { note(func(s *Seen) { s.Delivered = append(s.Delivered, p) }) },
		Event:   func(e dataplane.Event) { note(func(s *Seen) { s.Events = append(s.Events, e) }) },
	})
	h.rules = r
	return h
}

func (h *memoryHarness) Plane() dataplane.Plane { return h.Memory }

func (h *memoryHarness) Ends(v6 bool) (local, remote netip.Addr) {
	if v6 {
		return ends[2], ends[3]
	}
	return ends[0], ends[1]
}

func (h *memoryHarness) Seen() Seen {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.seen
	h.seen = Seen{}
	return s
}
