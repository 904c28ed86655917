package sim

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/dataplane/flow"
	"github.com/btns-ipsec/btns/host"
	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/ikev2"
	"github.com/btns-ipsec/btns/policy"
	"github.com/btns-ipsec/btns/protect"
	"github.com/btns-ipsec/btns/selector"
)

// The networks of RFC 5386 §3: A behind the gateway SG-A, B-net behind SG-B, the hosts C and D that know nothing but BTNS,
// Q that knows A and serves anybody on port 2049, R without IPsec, and X, whom nobody has asked. SG-A and SG-B speak IKE
// for the hosts behind them at the addresses of those, where SAs in transport mode are asked for.
const (
	hostA = "192.0.2.10"
	sgA   = "192.0.2.1"
	hostB = "198.51.100.77"
	sgB   = "198.51.100.1"
	bNet  = "198.51.100.0/24"
	hostC = "203.0.113.3"
	hostD = "203.0.113.4"
	hostQ = "203.0.113.17"
	hostR = "203.0.113.18"
	hostX = "203.0.113.66"
	nfs   = 2049
)

// example is the network with the SPDs and PADs of the RFC.
type example struct {
	*World
	at map[string]*Node // by the names of the RFC
}

// signerOf is the key of a host, the same in each of its configurations.
func signerOf(t *testing.T, name string) identity.Signer {
	t.Helper()
	s, err := identity.NewEd25519(bytes.NewReader(bytes.Repeat([]byte(name), 32)))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func id(t *testing.T, name string) identity.ID {
	t.Helper()
	i, err := identity.ParseID(name)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func traffic(t *testing.T, text string) selector.Set {
	t.Helper()
	s, err := selector.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return selector.Set{s}
}

// rule is one line of an SPD in the RFC.
func (e *example) rule(t *testing.T, name, local, remote string, action policy.Action, mode protect.Mode, btns bool) policy.Entry {
	r := policy.Entry{Name: name, Local: traffic(t, local), Remote: traffic(t, remote), Action: action}
	if action == policy.Protect {
		r.Mode, r.BtnsOK, r.Offer, r.Lifetime = mode, btns, policy.DefaultOffer(true), policy.DefaultLifetime()
	}
	return r
}

// gatewayed is a configured peer that is reached by a tunnel and goes by a name of its own.
func gatewayed(t *testing.T, pad, self, remote, local, inside string) host.Peer {
	prefix := func(s string) []netip.Prefix {
		if p, err := netip.ParsePrefix(s); err == nil {
			return []netip.Prefix{p}
		}
		a, err := netip.ParseAddr(s)
		if err != nil {
			return nil
		}
		return []netip.Prefix{netip.PrefixFrom(a, a.BitLen())}
	}
	return host.Peer{
		Name: pad, Remote: netip.MustParseAddr(remote), Mode: protect.Tunnel, InsideLocal: prefix(local), InsideRemote: prefix(inside),
		Self:  ikev2.Local{ID: id(t, self), Method: ikev2.Signature, SendKey: true},
		Offer: policy.DefaultOffer(true), Lifetime: policy.DefaultLifetime(),
	}
}

func named(t *testing.T, pad, peer, owner, constraint string) policy.PADEntry {
	return policy.PADEntry{
		Name: pad, Kind: policy.ByID, ID: id(t, peer), Keys: []identity.PublicKey{signerOf(t, owner).Public}, Constraint: traffic(t, constraint),
	}
}

func anybody(pad string) policy.PADEntry {
	return policy.PADEntry{Name: pad, Kind: policy.AnyKey, Constraint: selector.Any()}
}

func (e *example) add(t *testing.T, name, at string, spd []policy.Entry, pad []policy.PADEntry, peers []host.Peer, behind ...netip.Addr) *Node {
	t.Helper()
	p, err := policy.New(spd, pad)
	if err != nil {
		t.Fatal(err)
	}
	n := e.Host(name, func(c *host.Config) { c.Signer, c.Policy, c.Peers = signerOf(t, name), p, peers })
	n.Place(netip.MustParseAddr(at), behind...)
	e.at[name] = n
	return n
}

func newExample(t *testing.T, seed uint64) *example {
	e := &example{World: New(t, seed), at: make(map[string]*Node)}
	addr := netip.MustParseAddr
	const transport, tunnel = protect.Transport, protect.Tunnel
	e.add(t, "SG-A", sgA, []policy.Entry{
		e.rule(t, "SPD 1", hostA, hostR, policy.Bypass, 0, false),
		e.rule(t, "SPD 2", hostA, hostQ, policy.Protect, tunnel, false),
		e.rule(t, "SPD 3", hostA, bNet, policy.Protect, tunnel, false),
		e.rule(t, "SPD 4", hostA, "any4", policy.Protect, 0, true), // in the mode that the peer asks for
	}, []policy.PADEntry{ // the wildcard first: the order that the administrator typed does not matter (BTNS-CORE-04)
		anybody("PAD 3"), named(t, "PAD 1", "b.example", "SG-B", bNet), named(t, "PAD 2", "q.example", "Q", hostQ),
	}, []host.Peer{
		gatewayed(t, "PAD 1", "a.example", sgB, hostA, bNet), gatewayed(t, "PAD 2", "a.example", hostQ, hostA, hostQ),
	}, addr(hostA))
	e.add(t, "SG-B", sgB, []policy.Entry{
		e.rule(t, "SPD 1", bNet, hostA, policy.Protect, tunnel, false),
		e.rule(t, "SPD 2", bNet, "any4 tcp/2049", policy.Protect, transport, true),
		e.rule(t, "SPD 3", bNet, "any4", policy.Bypass, 0, false),
	}, []policy.PADEntry{named(t, "PAD 1", "a.example", "SG-A", hostA), anybody("PAD 2")},
		[]host.Peer{gatewayed(t, "PAD 1", "b.example", sgA, bNet, hostA)}, addr(hostB))
	e.add(t, "Q", hostQ, []policy.Entry{
		e.rule(t, "SPD 1", hostQ, hostA, policy.Protect, tunnel, false),
		e.rule(t, "SPD 2", hostQ+" tcp/2049", "any4", policy.Protect, transport, true),
	}, []policy.PADEntry{named(t, "PAD 1", "a.example", "SG-A", hostA), anybody("PAD 2")},
		[]host.Peer{gatewayed(t, "PAD 1", "q.example", sgA, hostQ, hostA)})
	for name, at := range map[string]string{"C": hostC, "D": hostD} {
		e.add(t, name, at, []policy.Entry{
			e.rule(t, "SPD 1", "any4", "any4 tcp/2049", policy.Protect, transport, true),
			e.rule(t, "SPD 2", "any4", "any4", policy.Bypass, 0, false),
		}, []policy.PADEntry{anybody("PAD 1")}, nil)
	}
	r := e.add(t, "R", hostR, []policy.Entry{e.rule(t, "no IPsec", "any4", "any4", policy.Bypass, 0, false)}, nil, nil)
	r.cfg.Listen = []netip.Addr{addr("0.0.0.0")}
	r.Kill()
	r.Boot()
	return e
}

// passage is what came of packets from one end to the other, once those that know each other have made SAs.
type passage struct {
	outcome   string
	assurance identity.Assurance // of the other end, as the sender knows it
}

const (
	protected = "protected"
	inClear   = "in clear"
	kept      = "kept by the sender"
	turned    = "in clear, and turned away"
)

// try has packets sent until what can be made is made, and looks at one more.
func (e *example) try(from, to string, pkt []byte) passage {
	src, dst := addrs(pkt)
	s, r := e.at[from], e.at[to]
	for range 8 {
		s.transmit(bytes.Clone(pkt))
		e.Run(time.Second)
	}
	before := [2]Tally{*count(s.Sent, dst), *r.tally(src)}
	s.transmit(bytes.Clone(pkt))
	e.Run(time.Second)
	after := [2]Tally{*count(s.Sent, dst), *r.tally(src)}
	p := passage{outcome: "lost"}
	switch sent, got := after[0], after[1]; {
	case sent == before[0] && got == before[1]:
		p.outcome = kept
	case sent.Protected > before[0].Protected && sent.Clear == before[0].Clear && got.Protected > before[1].Protected:
		p.outcome = protected
		p.assurance = s.assuranceFor(dst)
	case sent.Clear > before[0].Clear && got.Clear > before[1].Clear:
		p.outcome = inClear
	case sent.Clear > before[0].Clear && got == before[1]:
		p.outcome = turned
	}
	return p
}

// assuranceFor is how well n knows the peer whose SA takes packets to an address.
func (n *Node) assuranceFor(dst netip.Addr) identity.Assurance {
	for _, v := range n.host.Peers(n.w.now) {
		for _, c := range v.Children {
			if s, err := selector.Parse(c.Remote); err == nil && c.Sending && s.ContainsAddr(dst) {
				return v.Assurance
			}
		}
	}
	return identity.Clear
}

// What comes out between every two hosts (BTNS-CORE-04, BTNS-CORE-06, BTNS-CORE-11, BTNS-CORE-21).
func TestRFC5386Network(t *testing.T) {
	const app = 40000
	none, leap, sure := identity.Clear, identity.FirstUse, identity.Verified
	for _, tc := range []struct {
		name, from, to string
		src, dst       string
		sport, dport   uint16
		outcome        string
		assurance      identity.Assurance
		entry          string // of the sender's SPD
	}{
		{"CORE-T01 Q to A", "Q", "SG-A", hostQ, hostA, app, 80, protected, sure, "SPD 1"},
		{"CORE-T01 A to Q", "SG-A", "Q", hostA, hostQ, app, nfs, protected, sure, "SPD 2"},
		{"CORE-T02 B to A", "SG-B", "SG-A", hostB, hostA, app, 80, protected, sure, "SPD 1"},
		{"CORE-T02 A to B", "SG-A", "SG-B", hostA, hostB, app, 80, protected, sure, "SPD 3"},
		{"CORE-T03 R to A", "R", "SG-A", hostR, hostA, app, 80, inClear, none, "no IPsec"},
		{"CORE-T03 A to R", "SG-A", "R", hostA, hostR, app, 80, inClear, none, "SPD 1"},
		{"CORE-T04 C to the NFS port of A", "C", "SG-A", hostC, hostA, app, nfs, protected, leap, "SPD 1"},
		{"CORE-T04 the NFS port of A to C", "SG-A", "C", hostA, hostC, nfs, app, protected, leap, "SPD 4"},
		{"CORE-T04 D to the NFS port of A", "D", "SG-A", hostD, hostA, app, nfs, protected, leap, "SPD 1"},
		{"CORE-T31 C to port 80 of A, where all must be protected", "C", "SG-A", hostC, hostA, app, 80, turned, none, "SPD 2"},
		{"BTNS-CORE-25 port 80 of A to C, which protects nothing there", "SG-A", "C", hostA, hostC, 80, app, kept, none, "SPD 4"},
		{"CORE-T20 CORE-T30 C to the NFS port of Q", "C", "Q", hostC, hostQ, app, nfs, protected, leap, "SPD 1"},
		{"CORE-T20 the NFS port of Q to C", "Q", "C", hostQ, hostC, nfs, app, protected, leap, "SPD 2"},
		{"CORE-T20 D to the NFS port of Q", "D", "Q", hostD, hostQ, app, nfs, protected, leap, "SPD 1"},
		{"CORE-T22 B to the NFS port of Q", "SG-B", "Q", hostB, hostQ, app, nfs, protected, leap, "SPD 2"},
		{"CORE-T24 CORE-T31 C to port 22 of Q, which serves no other", "C", "Q", hostC, hostQ, app, 22, turned, none, "SPD 2"},
		{"CORE-T24 port 22 of Q to C", "Q", "C", hostQ, hostC, 22, app, kept, none, "no entry matches"},
		{"B to C", "SG-B", "C", hostB, hostC, app, 80, inClear, none, "SPD 3"},
		{"R to C", "R", "C", hostR, hostC, app, 80, inClear, none, "no IPsec"},
		{"CORE-T33 R from its NFS port to C", "R", "C", hostR, hostC, nfs, app, turned, none, "no IPsec"},
		{"BTNS-CORE-25 C to the NFS port of R, which has no IPsec", "C", "R", hostC, hostR, app, nfs, kept, none, "SPD 1"},
		{"R to the NFS port of Q", "R", "Q", hostR, hostQ, app, nfs, turned, none, "no IPsec"},
		{"C to D", "C", "D", hostC, hostD, app, 80, inClear, none, "SPD 2"},
		{"C to the NFS port of D, which has it not protected", "C", "D", hostC, hostD, app, nfs, kept, none, "SPD 1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := newExample(t, 1)
			pkt := tcpPacket(netip.MustParseAddr(tc.src), netip.MustParseAddr(tc.dst), tc.sport, tc.dport)
			if d := e.at[tc.from].cfg.Policy.Outbound(e.at[tc.from].flowOf(pkt, true)); d.Name != tc.entry {
				t.Fatalf("%q decides", d.Name)
			}
			if got := e.try(tc.from, tc.to, pkt); got != (passage{tc.outcome, tc.assurance}) {
				e.Fail("%s, assurance %v", got.outcome, got.assurance)
			}
		})
	}
}

// asking is a peer without a name that asks SG-A or Q for traffic.
func (e *example) asking(t *testing.T, at, as, remote, claim, inside string, mode protect.Mode) *Node {
	peer := gatewayed(t, "them", as, remote, claim, inside)
	peer.Mode, peer.Start, peer.Local = mode, host.StartUp, netip.MustParseAddr(at)
	if mode == protect.Transport {
		peer.InsideLocal, peer.InsideRemote = nil, nil
	}
	r := e.rule(t, "all", "any4", "any4", policy.Protect, mode, true)
	r.Peer = "them"
	return e.add(t, "X", at, []policy.Entry{r}, []policy.PADEntry{anybody("them")}, []host.Peer{peer})
}

// Who is nothing but a key never gets the address or the range of another one (BTNS-CORE-07, BTNS-CORE-11 to BTNS-CORE-13).
func TestRFC5386Rogue(t *testing.T) {
	for _, tc := range []struct {
		name             string
		at, as           string // where it speaks from, and the name that it asserts
		remote, inside   string
		claim            string
		mode             protect.Mode
		settled          bool // C has been here before
		granted, refusal string
	}{
		{name: "CORE-T05 asserts the name of Q", as: "q.example", refusal: string(host.WrongKey), claim: hostX},
		{name: "CORE-T05 asserts the name of Q at the address of Q", at: hostQ, as: "q.example", refusal: string(host.WrongKey), mode: protect.Transport},
		{name: "CORE-T06 the address of Q", claim: hostQ, refusal: string(host.ChildOutside)},
		{name: "CORE-T06 at the address of Q", at: hostQ, mode: protect.Transport, refusal: string(host.ChildOutside)},
		{name: "CORE-T07 an address in B-net", claim: "198.51.100.5", refusal: string(host.ChildOutside)},
		{name: "CORE-T07 all of B-net", claim: bNet, refusal: string(host.ChildOutside)},
		{name: "CORE-T07 at an address in B-net", at: "198.51.100.5", mode: protect.Transport, refusal: string(host.ChildOutside)},
		{name: "BTNS-CORE-22 the address of R, which is bypassed", claim: hostR, refusal: string(host.ChildOutside)},
		{
			name: "CORE-T08 a range with Q and R in it", claim: "203.0.113.0/24",
			granted: "203.0.113.0-203.0.113.16, 203.0.113.19-203.0.113.255",
		},
		{
			name: "CORE-T08 a range with C in it, which is known", claim: "203.0.113.0/24", settled: true,
			granted: "203.0.113.0-203.0.113.2, 203.0.113.4-203.0.113.16, 203.0.113.19-203.0.113.255",
		},
		{name: "CORE-T08 more than B-net", claim: "198.51.100.0/23", granted: "198.51.101.0/24"},
		{name: "CORE-T09 the address of C, which nobody knows", claim: hostC, granted: hostC + "/32"},
		{name: "CORE-T09 the address of C, which is known", claim: hostC, settled: true, refusal: string(host.ChildOutside)},
		{name: "CORE-T09 at the address of C, which is known", at: hostC, mode: protect.Transport, settled: true, refusal: string(host.Changed)},
		{name: "its own address", claim: hostX, granted: hostX + "/32"},
		{name: "CORE-T23 the address of A, at Q", at: hostA, remote: hostQ, mode: protect.Transport, refusal: string(host.ChildOutside)},
		{name: "CORE-T22 an address in B-net, at Q", at: hostB, remote: hostQ, mode: protect.Transport, granted: hostB + "/32 tcp"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := newExample(t, 2)
			victim := e.at["SG-A"]
			if tc.remote == hostQ {
				victim = e.at["Q"]
			}
			if tc.settled {
				a, c := netip.MustParseAddr(hostA), netip.MustParseAddr(hostC)
				e.try("SG-A", "C", tcpPacket(a, c, nfs, 40000)) // A begins: what the address of C stands for is its choice
				e.try("C", "SG-A", tcpPacket(c, a, 40000, nfs))
				e.at["C"].Kill()
				e.Run(5 * time.Minute)
			}
			at, as, remote, mode := hostX, "x.example", tc.remote, tc.mode
			if tc.at != "" {
				at = tc.at
				if n := e.byAddr[netip.MustParseAddr(at)]; n != nil {
					n.Kill()
				}
			}
			if tc.as != "" {
				as = tc.as
			}
			if remote == "" {
				remote = sgA
				if mode == protect.Transport {
					remote = hostA
				}
			}
			if mode == 0 {
				mode = protect.Tunnel
			}
			x := e.asking(t, at, as, remote, tc.claim, hostA, mode)
			e.Run(20 * time.Second)
			var got string
			for _, v := range victim.host.Peers(e.now) {
				if v.Key == x.cfg.Signer.Public.Fingerprint() && len(v.Children) > 0 {
					got = v.Children[0].Remote
				}
			}
			if got != tc.granted || tc.refusal != "" && victim.Reasons[host.Reason(tc.refusal)] == 0 {
				e.Fail("granted %q, want %q; refusals %v", got, tc.granted, victim.Reasons)
			}
		})
	}
}

// CORE-T10: the second search of the PAD runs for a child that is asked for later, too (BTNS-CORE-13); and what its SA does
// not cover, no packet of the rogue brings in (BTNS-CORE-23).
func TestRFC5386RogueWithSAs(t *testing.T) {
	e := newExample(t, 3)
	a, q, own := netip.MustParseAddr(hostA), netip.MustParseAddr(hostQ), netip.MustParseAddr(hostX)
	x, victim := e.asking(t, hostX, "x.example", sgA, hostX, hostA, protect.Tunnel), e.at["SG-A"]
	e.Run(5 * time.Second)
	x.transmit(tcpPacket(own, a, 1, 2))
	e.Run(time.Second)
	if victim.tally(own).Protected != 1 {
		e.Fail("the rogue's own packets do not come in")
	}
	x.table.Pairs(func(p *flow.Pair) bool {
		pkt := tcpPacket(q, a, 1, 2)
		_, i, err := flow.ParseFlow(pkt, true)
		if err != nil {
			t.Fatal(err)
		}
		sealed, r := p.SealPacket(nil, pkt, &i)
		if r != flow.NoReason {
			t.Fatal(r)
		}
		e.carry(x, datagram{p.OuterLocal, p.OuterRemote, esp, sealed})
		return true
	})
	e.Run(time.Second)
	if got := *victim.tally(q); got != (Tally{}) {
		e.Fail("in the name of Q came %+v", got)
	}
	peer := x.cfg.Peers[0]
	peer.InsideLocal = []netip.Prefix{netip.PrefixFrom(q, 32)}
	if got := x.Reload(host.Reload{Policy: x.cfg.Policy, Peers: []host.Peer{peer}}); got.Err != nil {
		t.Fatal(got.Err)
	}
	e.Run(5 * time.Second)
	v, _ := victim.view(x)
	if victim.Reasons[host.ChildOutside] == 0 || len(v.Children) > 1 || strings.Count(e.Ladder(), "IKE_SA_INIT") > 2 {
		e.Fail("asked for the address of Q by CREATE_CHILD_SA: refusals %v, children %+v", victim.Reasons, v.Children)
	}
}

// D has no fixed address: it is served wherever it is.
func TestRFC5386FloatingHost(t *testing.T) {
	e := newExample(t, 4)
	for _, at := range []string{hostD, "203.0.113.99", "192.0.2.200"} {
		d := e.at["D"]
		d.Move(netip.MustParseAddr(at))
		got := e.try("D", "Q", tcpPacket(d.Addr, netip.MustParseAddr(hostQ), 40000, nfs))
		if got.outcome != protected {
			e.Fail("at %s: %s", at, got.outcome)
		}
	}
}
