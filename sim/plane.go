package sim

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"
	"time"

	"github.com/btns-ipsec/btns/dataplane"
	"github.com/btns-ipsec/btns/dataplane/flow"
	"github.com/btns-ipsec/btns/host"
	"github.com/btns-ipsec/btns/policy"
	"github.com/btns-ipsec/btns/selector"
)

// A node's plane: flow.Table and nothing else. What a real plane does with sockets and devices is here a function call.

const (
	acquireEvery = time.Second
	maxHeld      = 16
	appProto     = 253 // RFC 3692: for experiments
)

func (n *Node) apply(c dataplane.Change) {
	switch c := c.(type) {
	case dataplane.AddSA:
		pair, err := flow.NewPair(c.Spec)
		if err != nil {
			n.w.t.Fatalf("%s: pair: %v", n.Name, err)
		}
		n.table = n.table.Add(pair, c.Use)
		n.counts[c.Spec.ID] = &dataplane.Counters{ID: c.Spec.ID}
	case dataplane.UseSA:
		n.table = n.table.Use(c.ID)
		n.release()
	case dataplane.RetireSA:
		n.table = n.table.Retire(c.ID)
	case dataplane.RemoveSA:
		n.table = n.table.Remove(c.ID)
		delete(n.counts, c.ID)
	case dataplane.MoveSA:
		n.table = n.table.Move(c.ID, c.Remote)
	case dataplane.SetPrefix:
		n.table = n.table.SetPrefix(c.Prefix, c.State)
		n.release()
	case dataplane.SetRules:
		n.table = n.table.SetRules(c.Rules)
		n.release()
	}
}

// Send lets the application send one packet.
func (n *Node) Send(to *Node) {
	if n.running() {
		n.transmit(packet(n.Addr, to.Addr))
	}
}

// SendUDP lets the application send one UDP packet.
func (n *Node) SendUDP(to *Node, lport, rport uint16) {
	if n.running() {
		n.transmit(udpPacket(n.Addr, to.Addr, lport, rport))
	}
}

// packet is an IPv4 packet of the simulated application.
func packet(from, to netip.Addr) []byte { return ipPacket(from, to, appProto) }

func udpPacket(from, to netip.Addr, sport, dport uint16) []byte {
	b := ported(ipPacket(from, to, selector.UDP), sport, dport)
	binary.BigEndian.PutUint16(b[24:], uint16(len(b)-20))
	return b
}

func tcpPacket(from, to netip.Addr, sport, dport uint16) []byte {
	b := ported(ipPacket(from, to, selector.TCP), sport, dport)
	b[32] = 5 << 4
	return b
}

func ported(b []byte, sport, dport uint16) []byte {
	binary.BigEndian.PutUint16(b[20:], sport)
	binary.BigEndian.PutUint16(b[22:], dport)
	return b
}

func ipPacket(from, to netip.Addr, proto uint8) []byte {
	const payload = 20
	b := make([]byte, 20+payload)
	b[0], b[8], b[9] = 0x45, 64, proto
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	f, t := from.As4(), to.As4()
	copy(b[12:], f[:])
	copy(b[16:], t[:])
	var sum uint32
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(b[10:], ^uint16(sum))
	return b
}

func (n *Node) transmit(pkt []byte) {
	src, dst := addrs(pkt)
	f := n.flowOf(pkt, true)
	v := n.table.Out(&f)
	if n.Decide != nil {
		v = n.Decide(v)
	}
	switch v.Action {
	case flow.Pass:
		n.checkMayPass(f)
		count(n.Sent, dst).Clear++
		n.w.carry(n, datagram{netip.AddrPortFrom(src, 0), netip.AddrPortFrom(dst, 0), clearText, pkt})
		n.acquire(f, false)
	case flow.Queue:
		if q := n.held[dst]; len(q) < maxHeld {
			n.held[dst] = append(q, pkt)
		}
		n.acquire(f, true)
	case flow.Seal:
		sealed, v := n.table.Protect(nil, pkt)
		if v.Action != flow.Seal {
			return
		}
		if c := n.counts[v.Pair.ID]; c != nil {
			c.PacketsOut++
			c.LastOut = n.w.now
		}
		count(n.Sent, dst).Protected++
		n.w.carry(n, datagram{v.Pair.OuterLocal, v.Pair.OuterRemote, esp, sealed})
	case flow.Drop:
		if v.Reason == flow.NoSA {
			n.acquire(f, false)
		}
	}
}

// checkMayPass is the invariant of every scene: no packet leaves in clear where its prefix must be protected, but by a rule
// of the SPD.
func (n *Node) checkMayPass(f selector.Flow) {
	switch e := n.cfg.Policy.Outbound(f); {
	case e.Action == policy.Bypass:
		return
	case e.Word(policy.Out) != policy.WordPrefer && e.Word(policy.Out) != policy.WordAccept:
		n.w.Fail("%s let a packet to %s leave in clear; SPD entry %q says %s", n.Name, n.w.nameOf(f.Remote), e.Name, e.Word(policy.Out))
	}
	if s, _, _ := n.table.State(f.Remote); s != flow.Clear {
		n.w.Fail("%s let a packet to %s leave in clear; the prefix is in state %v", n.Name, n.w.nameOf(f.Remote), s)
	}
}

// flowOf is the flow of a packet that an application of the simulation made.
func (n *Node) flowOf(pkt []byte, outbound bool) selector.Flow {
	f, _, err := flow.ParseFlow(pkt, outbound)
	if err != nil {
		n.w.t.Fatalf("%s: a malformed packet: %v", n.Name, err)
	}
	return f
}

func (n *Node) acquire(f selector.Flow, held bool) {
	if last, ok := n.asked[f.Remote]; ok && n.w.now.Sub(last) < acquireEvery {
		return
	}
	n.asked[f.Remote] = n.w.now
	n.later(0, host.FromPlane{Event: dataplane.Acquire{Flow: f, Held: held}})
}

// release sends what waited, where it may go now.
func (n *Node) release() {
	for _, dst := range sortedAddrs(n.held) {
		if s, _, _ := n.table.State(dst); s == flow.Hold {
			f := n.flowOf(n.held[dst][0], true)
			if n.table.Out(&f).Action != flow.Seal {
				continue
			}
		}
		waiting := n.held[dst]
		delete(n.held, dst)
		for _, pkt := range waiting {
			n.transmit(pkt)
		}
	}
}

func (n *Node) receive(d datagram) {
	switch d.kind {
	case ike:
		n.step(host.FromPlane{Event: dataplane.Datagram{Local: d.local, Remote: d.remote, Data: slices.Clone(d.data)}})
	case esp:
		n.open(d)
	case clearText:
		f := n.flowOf(d.data, false)
		if n.table.InClear(&f).Action == flow.Accept {
			n.tally(f.Remote).Clear++
		}
	}
}

func (n *Node) open(d datagram) {
	spi := binary.BigEndian.Uint32(d.data)
	pkt, pair, reason := n.table.Unprotect(nil, d.data, d.local.Addr(), d.remote.Addr())
	if reason == flow.UnknownSPI {
		n.later(0, host.FromPlane{Event: dataplane.UnknownSPI{Local: d.local, Remote: d.remote, SPI: spi}})
		return
	}
	if reason != flow.NoReason {
		return
	}
	src, _ := addrs(pkt)
	n.tally(src).Protected++
	c := n.counts[pair.ID]
	if c == nil {
		return
	}
	c.PacketsIn++
	c.LastIn = n.w.now
	if pair.PeerMoves && d.remote != pair.OuterRemote && pair.Opener().Newest() {
		n.later(0, host.FromPlane{Event: dataplane.Moved{ID: pair.ID, Remote: d.remote}})
	}
	if c.PacketsIn == 1 {
		n.later(0, host.FromPlane{Event: dataplane.Carried{ID: pair.ID}})
	}
}

func (n *Node) tally(from netip.Addr) *Tally { return count(n.Received, from) }

func count(m map[netip.Addr]*Tally, of netip.Addr) *Tally {
	t := m[of]
	if t == nil {
		t = new(Tally)
		m[of] = t
	}
	return t
}

func (n *Node) readCounters() []dataplane.Counters {
	list := make([]dataplane.Counters, 0, len(n.counts))
	for _, c := range n.counts {
		list = append(list, *c)
	}
	slices.SortFunc(list, func(a, b dataplane.Counters) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

func addrs(pkt []byte) (src, dst netip.Addr) {
	return netip.AddrFrom4([4]byte(pkt[12:16])), netip.AddrFrom4([4]byte(pkt[16:20]))
}

func sortedAddrs[V any](m map[netip.Addr]V) []netip.Addr {
	list := make([]netip.Addr, 0, len(m))
	for a := range m {
		list = append(list, a)
	}
	slices.SortFunc(list, netip.Addr.Compare)
	return list
}

func sortedKeys[V any](m map[string]V) []string {
	list := make([]string, 0, len(m))
	for k := range m {
		list = append(list, k)
	}
	slices.Sort(list)
	return list
}
