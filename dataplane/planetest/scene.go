package planetest

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"github.com/btns-ipsec/btns/dataplane"
	"github.com/btns-ipsec/btns/dataplane/flow"
	"github.com/btns-ipsec/btns/protect"
	"github.com/btns-ipsec/btns/selector"
)

// Case is one thing that a plane must do.
type Case struct {
	Name  string
	scene func(*scene)
}

// Check plays the case with a fresh plane and says what the plane did wrong.
func (c Case) Check(h Harness) (wrong []string) {
	s := &scene{h: h, peers: make(map[flow.PairID]*flow.Pair)}
	s.local, s.remote = h.Ends(false)
	c.scene(s)
	return s.wrong
}

// Run puts a plane through all cases; newPlane makes one without SAs for each and cleans up with t.
func Run(t *testing.T, newPlane func(t *testing.T) Harness) {
	for _, c := range Cases() {
		t.Run(c.Name, func(t *testing.T) {
			for _, w := range c.Check(newPlane(t)) {
				t.Error(w)
			}
		})
	}
}

// scene is one case at play: the plane, and the peer's half of every pair.
type scene struct {
	h             Harness
	local, remote netip.Addr
	peers         map[flow.PairID]*flow.Pair
	wrong         []string
}

func (s *scene) fail(format string, args ...any) {
	s.wrong = append(s.wrong, fmt.Sprintf(format, args...))
}

func (s *scene) apply(changes ...dataplane.Change) {
	if err := s.h.Plane().Apply(changes); err != nil {
		s.fail("Apply: %v", err)
	}
}

func (s *scene) host() netip.Prefix { return netip.PrefixFrom(s.remote, s.remote.BitLen()) }

func (s *scene) state(st flow.State) dataplane.Change {
	return dataplane.SetPrefix{Prefix: s.host(), State: st, Local: s.local}
}

var suite = protect.Suite{Encr: protect.AESGCM16, KeyBits: 128, ESN: true}

// spec is a transport pair between the ends, for all traffic; every ID has keys of its own.
func (s *scene) spec(id flow.PairID) flow.Spec {
	key := func(dir byte) protect.Keys {
		k := make([]byte, suite.EncrLen())
		for i := range k {
			k[i] = byte(id)*16 + dir + byte(i)
		}
		return protect.Keys{Encr: k}
	}
	return flow.Spec{
		ID: id, Suite: suite, Mode: protect.Transport, SPIIn: 0x10000 + uint32(id), SPIOut: 0x20000 + uint32(id),
		KeysIn: key(1), KeysOut: key(2), Local: selector.Set{selector.Host(s.local)}, Remote: selector.Set{selector.Host(s.remote)},
		OuterLocal: netip.AddrPortFrom(s.local, 4500), OuterRemote: netip.AddrPortFrom(s.remote, 4500), Encap: true,
	}
}

// add is the change that installs a pair, and makes the peer's half of it.
func (s *scene) add(sp flow.Spec, use bool) dataplane.Change {
	b := sp
	b.SPIIn, b.SPIOut, b.KeysIn, b.KeysOut = sp.SPIOut, sp.SPIIn, sp.KeysOut, sp.KeysIn
	b.Local, b.Remote, b.OuterLocal, b.OuterRemote = sp.Remote, sp.Local, sp.OuterRemote, sp.OuterLocal
	b.Soft, b.Hard, b.SawLocal, b.SawRemote, b.PeerMoves = protect.Limits{}, protect.Limits{}, netip.Addr{}, netip.Addr{}, false
	p, err := flow.NewPair(b)
	if err != nil {
		s.fail("the scene's own pair: %v", err)
		return dataplane.RemoveSA{}
	}
	s.peers[sp.ID] = p
	return dataplane.AddSA{Spec: sp, Use: use}
}

// protect installs pair 1 in use and protects the peer.
func (s *scene) protect() {
	s.apply(s.add(s.spec(1), true), s.state(flow.Protect))
}

// out and in are UDP packets from and to the host, told apart by n.
func (s *scene) out(n uint16) []byte { return udpPacket(s.local, s.remote, 1000, 2000, n) }
func (s *scene) in(n uint16) []byte  { return udpPacket(s.remote, s.local, 2000, 1000, n) }

func udpPacket(src, dst netip.Addr, sport, dport, n uint16) []byte {
	var u [24]byte
	binary.BigEndian.PutUint16(u[0:], sport)
	binary.BigEndian.PutUint16(u[2:], dport)
	binary.BigEndian.PutUint16(u[4:], uint16(len(u)))
	binary.BigEndian.PutUint16(u[8:], n)
	copy(u[10:], "planetest data")
	binary.BigEndian.PutUint16(u[6:], flow.UpperChecksum(src, dst, selector.UDP, u[:]))
	return ipPacket(src, dst, selector.UDP, 0, u[:])
}

func ipPacket(src, dst netip.Addr, proto, tos uint8, payload []byte) []byte {
	b := make([]byte, 40+len(payload))
	n := flow.PutHeader(b, src, dst, proto, tos, 64, len(payload))
	return append(b[:n], payload...)
}

// sealed is what the peer sends for pkt under a pair, whatever its selectors say.
func (s *scene) sealed(id flow.PairID, pkt []byte) Wired {
	_, i, err := flow.ParseFlow(pkt, true)
	if err != nil {
		s.fail("the scene's own packet: %v", err)
		return Wired{}
	}
	p := s.peers[id]
	payload, next, _ := p.Payload(pkt, &i)
	return s.sealedPayload(id, payload, next)
}

func (s *scene) sealedPayload(id flow.PairID, payload []byte, next byte) Wired {
	p := s.peers[id]
	b := make([]byte, len(payload)+p.Sealer().Overhead())
	head := p.Sealer().HeadLen()
	n := p.Sealer().PutTrailer(b[head:], copy(b[head:], payload), next)
	n, err := p.Sealer().Seal(b, b[head:head+n])
	if err != nil {
		s.fail("the scene's own sealing: %v", err)
	}
	return Wired{Kind: ESP, From: p.OuterLocal, To: p.OuterRemote, Data: b[:n]}
}

// opened is how many packets on the wire the peer opens under a pair, and as which; the others are its fault.
func (s *scene) opened(id flow.PairID, wire []Wired) (pkts [][]byte) {
	p := s.peers[id]
	for _, w := range wire {
		if w.Kind != ESP || spiOf(w.Data) != p.SPIIn {
			continue
		}
		pkt, r := p.OpenPacket(nil, w.Data, flow.Outer{Local: w.To.Addr(), Remote: w.From.Addr(), TOS: w.TOS})
		if r != flow.NoReason {
			s.fail("the peer cannot open a packet of pair %d: %v", id, r)
			continue
		}
		pkts = append(pkts, pkt)
	}
	return pkts
}

// content is what a packet says, without what may differ: TTL, ID, checksums.
func content(pkt []byte) string {
	f, i, err := flow.ParseFlow(pkt, true)
	if err != nil {
		return fmt.Sprintf("malformed %x", pkt)
	}
	upper := append([]byte(nil), pkt[i.UpperAt:i.TotalLen]...)
	if f.Proto == selector.UDP {
		upper[6], upper[7] = 0, 0
	}
	return fmt.Sprintf("%v %x", f, upper)
}

// same checks that got are the packets want, in order.
func (s *scene) same(what string, got [][]byte, want ...[]byte) {
	if len(got) != len(want) {
		s.fail("%s: %d packets, not %d", what, len(got), len(want))
		return
	}
	for i := range got {
		if content(got[i]) != content(want[i]) {
			s.fail("%s: packet %d is\n%s, not\n%s", what, i, content(got[i]), content(want[i]))
		}
	}
}

// wire are the packets of one kind, with the data only.
func wire(seen Seen, k Kind) (out [][]byte) {
	for _, w := range seen.Wire {
		if w.Kind == k {
			out = append(out, w.Data)
		}
	}
	return out
}

// silent checks that nothing left the host, in clear or otherwise.
func (s *scene) silent(what string, seen Seen) {
	for _, w := range seen.Wire {
		s.fail("%s: a packet of kind %d left the host", what, w.Kind)
	}
}

// noClear checks that nothing left the host in clear.
func (s *scene) noClear(what string, seen Seen) {
	if n := len(wire(seen, Clear)); n > 0 {
		s.fail("%s: %d packets left in clear", what, n)
	}
}

// send lets applications send packets and looks at what came of them.
func (s *scene) send(pkts ...[]byte) Seen {
	for _, p := range pkts {
		s.h.FromApp(p)
	}
	return s.h.Seen()
}

func (s *scene) receive(ws ...Wired) Seen {
	for _, w := range ws {
		s.h.FromNet(w)
	}
	return s.h.Seen()
}

func (s *scene) clear(pkt []byte) Wired {
	f, _, _ := flow.ParseFlow(pkt, true)
	return Wired{Kind: Clear, From: netip.AddrPortFrom(f.Local, 0), To: netip.AddrPortFrom(f.Remote, 0), Data: pkt}
}

// events are those of one type.
func events[E dataplane.Event](seen Seen) (out []E) {
	for _, e := range seen.Events {
		if e, ok := e.(E); ok {
			out = append(out, e)
		}
	}
	return out
}
