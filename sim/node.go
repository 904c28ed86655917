package sim

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/btns-ipsec/btns/dataplane"
	"github.com/btns-ipsec/btns/dataplane/flow"
	"github.com/btns-ipsec/btns/host"
	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/trust"
)

// Node is one simulated machine: a host, a plane made of flow alone, a store, and an application that sends numbered
// packets.
type Node struct {
	Name string
	Addr netip.Addr

	w      *World
	cfg    host.Config
	host   *host.Host
	table  *flow.Table
	epoch  int // counts restarts: what was scheduled before means nothing after
	timer  time.Time
	store  map[string]trust.Record
	held   map[netip.Addr][][]byte
	asked  map[netip.Addr]time.Time
	counts map[flow.PairID]*dataplane.Counters

	// Received counts packets that the application got, by sender and by whether they came protected; Sent is the same of
	// what left for others.
	Received, Sent map[netip.Addr]*Tally
	// Reports are what the host said, by kind, and Reasons the same by code.
	Reports map[host.Kind]int
	Reasons map[host.Reason]int
	// Reloaded is the last answer to Reload.
	Reloaded *host.Reloaded
	// Decide, when set, may overrule the table's verdict on an outbound packet: to show that a wrong one is caught.
	Decide func(v flow.Verdict) flow.Verdict
}

// Tally of the packets of one end.
type Tally struct{ Protected, Clear int }

type datagramKind uint8

const (
	ike datagramKind = iota + 1
	esp
	clearText
)

// datagram is what the wire carries: IKE and ESP with ports, clear IP packets without.
type datagram struct {
	local, remote netip.AddrPort
	kind          datagramKind
	data          []byte
}

func (d datagram) String() string {
	switch d.kind {
	case ike:
		return describeIKE(d.data)
	case esp:
		return fmt.Sprintf("ESP spi=%08x seq=%d len=%d", binary.BigEndian.Uint32(d.data), binary.BigEndian.Uint32(d.data[4:]), len(d.data))
	}
	return fmt.Sprintf("CLEAR len=%d", len(d.data))
}

// describeIKE names exchange, message ID and direction from the header alone.
func describeIKE(b []byte) string {
	if len(b) < 28 {
		return fmt.Sprintf("IKE of %d octets", len(b))
	}
	names := map[byte]string{34: "IKE_SA_INIT", 35: "IKE_AUTH", 36: "CREATE_CHILD_SA", 37: "INFORMATIONAL", 43: "IKE_INTERMEDIATE", 44: "IKE_FOLLOWUP_KE"}
	kind := "request"
	if b[19]&0x20 != 0 {
		kind = "response"
	}
	return fmt.Sprintf("%s %d %s %08x len=%d", names[b[18]], binary.BigEndian.Uint32(b[20:]), kind, binary.BigEndian.Uint32(b), len(b))
}

// Host adds a machine with the default policy. Change cfg in edit, when given.
func (w *World) Host(name string, edit ...func(*host.Config)) *Node {
	w.t.Helper()
	n := &Node{Name: name, w: w, store: make(map[string]trust.Record)}
	for i := len(w.nodes) + 1; !n.Addr.IsValid() || w.byAddr[n.Addr] != nil; i++ {
		n.Addr = netip.AddrFrom4([4]byte{203, 0, byte(113 + i>>8), byte(i)})
	}
	n.reset()
	signer, err := identity.NewEd25519(chance{w.rnd})
	if err != nil {
		w.t.Fatalf("key of %s: %v", name, err)
	}
	if n.cfg, err = defaultConfig(signer); err != nil {
		w.t.Fatalf("%s: %v", name, err)
	}
	for _, f := range edit {
		f(&n.cfg)
	}
	w.nodes = append(w.nodes, n)
	w.byAddr[n.Addr] = n
	n.boot()
	return n
}

func (n *Node) reset() {
	n.table = flow.NewTable()
	n.held = make(map[netip.Addr][][]byte)
	n.asked = make(map[netip.Addr]time.Time)
	n.counts = make(map[flow.PairID]*dataplane.Counters)
	if n.Received == nil {
		n.Received, n.Sent = make(map[netip.Addr]*Tally), make(map[netip.Addr]*Tally)
		n.Reports, n.Reasons = make(map[host.Kind]int), make(map[host.Reason]int)
	}
}

func (n *Node) boot() {
	n.cfg.Records = nil
	for _, k := range sortedKeys(n.store) {
		n.cfg.Records = append(n.cfg.Records, n.store[k])
	}
	h, err := host.New(n.cfg, chance{n.w.rnd})
	if err != nil {
		n.w.t.Fatalf("%s: %v", n.Name, err)
	}
	n.host = h
	n.carryOut(h.Start(n.w.now, nil))
}

// Kill takes the machine away without a word; Boot brings it back with what its store holds.
func (n *Node) Kill() {
	n.w.say("%s killed", n.Name)
	n.host = nil
	n.epoch++
	n.timer = time.Time{}
	n.reset()
}

// Boot starts a killed machine.
func (n *Node) Boot() {
	n.w.say("%s boots", n.Name)
	n.boot()
}

// Shutdown stops the host in good order.
func (n *Node) Shutdown() {
	n.step(host.Stop{})
}

// Reload puts another configuration in force on a running machine, and returns the host's answer.
func (n *Node) Reload(r host.Reload) host.Reloaded {
	n.w.say("%s reloads", n.Name)
	n.Reloaded = nil
	n.step(r)
	if n.Reloaded == nil {
		n.w.Fail("%s does not answer a reload", n.Name)
	}
	return *n.Reloaded
}

// Move gives the machine another address.
func (n *Node) Move(to netip.Addr) {
	n.w.say("%s moves to %v", n.Name, to)
	delete(n.w.byAddr, n.Addr)
	n.Addr = to
	n.w.byAddr[to] = n
	n.step(host.FromPlane{Event: dataplane.AddressChanged{}})
}

// Place gives the machine an address of a test's own, and others of hosts for which it is the gateway.
func (n *Node) Place(at netip.Addr, behind ...netip.Addr) {
	delete(n.w.byAddr, n.Addr)
	n.Addr = at
	for _, a := range append(behind, at) {
		n.w.byAddr[a] = n
	}
}

func (n *Node) running() bool { return n.host != nil }

func (n *Node) step(ev host.Event) {
	if n.host == nil {
		return
	}
	n.carryOut(n.host.Step(n.w.now, ev, nil))
}

func (n *Node) carryOut(actions []host.Action) {
	for _, a := range actions {
		switch a := a.(type) {
		case host.Change:
			n.apply(a.Change)
		case host.Send:
			n.w.carry(n, datagram{a.Local, a.Remote, ike, a.Data})
		case host.Compute:
			a.Job.Run()
			n.later(0, host.Computed(a))
		case host.Save:
			n.store[a.Record.ID()] = a.Record
		case host.Erase:
			delete(n.store, a.Record.ID())
		case host.FindSource:
			n.later(0, host.SourceFound{Remote: a.Remote, Local: n.Addr})
		case host.ReadCounters:
			n.later(0, host.CountersRead{Counters: n.readCounters()})
		case host.KeyTurned:
			n.cfg.Rotation = host.Rotation{Former: n.cfg.Signer.Public, Turned: n.w.now}
			n.cfg.Signer = a.Key
		case host.Reloaded:
			n.Reloaded = &a
		case host.Report:
			n.Reports[a.Kind]++
			n.Reasons[a.Reason]++
			if a.Reason != "" && !a.Reason.Known() || a.Reason == "" && a.Level >= host.Warn {
				n.w.Fail("%s reports %s with the reason %q", n.Name, a.Kind, a.Reason)
			}
			n.w.say("%s: %s %v %s", n.Name, a.Kind, a.Remote, a.Text)
		}
	}
	n.schedule()
}

// later posts an event to the host as it is now: a restart in between makes it void.
func (n *Node) later(d time.Duration, ev host.Event) {
	epoch := n.epoch
	n.w.After(d, func() {
		if n.epoch == epoch {
			n.step(ev)
		}
	})
}

func (n *Node) schedule() {
	if n.host == nil {
		return
	}
	at, ok := n.host.Deadline()
	if !ok || !n.timer.IsZero() && !n.timer.After(at) && n.timer.After(n.w.now) {
		return
	}
	n.timer = at
	epoch := n.epoch
	n.w.After(max(at.Sub(n.w.now), 0), func() {
		if n.epoch == epoch && n.timer.Equal(at) {
			n.timer = time.Time{}
			n.step(host.Tick{})
		}
	})
}

// chance makes a reader of a source of chance.
type chance struct{ *rand.Rand }

func (c chance) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(c.Uint32())
	}
	return len(b), nil
}
