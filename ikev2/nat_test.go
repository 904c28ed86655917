package ikev2

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/protect"
	"github.com/btns-ipsec/btns/selector"
)

var (
	inside  = netip.MustParseAddr("10.0.0.5")
	outside = netip.MustParseAddr("198.51.100.1")
)

// box is a NAT in front of one node: its private address is inside, the world sees outside.
type box struct {
	behind *node
	shift  uint16 // added to ports on the way out: a new mapping
}

func (b *box) carry(from *node, s Send) []Send {
	if from == b.behind {
		s.Local = ap(outside, s.Local.Port()+b.shift)
	} else {
		if s.Remote.Addr() != outside {
			return nil // the old mapping is gone, or there never was one
		}
		s.Remote = ap(inside, s.Remote.Port()-b.shift)
	}
	return []Send{s}
}

// behindNAT puts a behind a NAT.
func behindNAT(p *pair, shift uint16) (*box, Initiate) {
	b := &box{p.a, shift}
	p.carry = b.carry
	i := p.initiation(p.a)
	i.Local = ap(inside, portIKE)
	i.Child.Local = selector.Set{selector.Host(inside)}
	return b, i
}

// RFC 7296 §2.23, §2.23.1: the initiator is behind a NAT: port 4500 from IKE_AUTH on, both know it, transport mode with
// addresses substituted and the peer's view kept for checksums.
func TestInitiatorBehindNAT(t *testing.T) {
	p := newPair(t, 80, plain(), plain())
	_, i := behindNAT(p, 1000)
	p.step(p.a, i)
	p.run(time.Second)
	p.matched()
	ua := p.a.up[i.SA]
	var ub SAUp
	for _, ub = range p.b.up {
		break
	}
	if !ua.NAT.Us || ua.NAT.Peer || ub.NAT.Us || !ub.NAT.Peer {
		t.Fatalf("%+v %+v", ua.NAT, ub.NAT)
	}
	if ua.Local != ap(inside, 4500) || ua.Remote != ap(addrB, 4500) || ub.Local != ap(addrB, 4500) || ub.Remote != ap(outside, 5500) {
		t.Errorf("a %v %v, b %v %v", ua.Local, ua.Remote, ub.Local, ub.Remote)
	}
	ca, cb := p.a.one(t), p.b.one(t)
	host := func(a netip.Addr) string { return selector.Set{selector.Host(a)}.String() }
	if ca.Mode != protect.Transport || ca.Local.String() != host(inside) || ca.Remote.String() != host(addrB) ||
		cb.Local.String() != host(addrB) || cb.Remote.String() != host(outside) {
		t.Errorf("%s\n%s", describe(ca), describe(cb))
	}
	if cb.SawRemote != inside || cb.SawLocal != addrB || ca.SawLocal != outside || ca.SawRemote != addrB {
		t.Errorf("a saw %v %v, b saw %v %v", ca.SawLocal, ca.SawRemote, cb.SawLocal, cb.SawRemote)
	}
	// RFC 3948 §4: whoever is behind the NAT keeps the mapping, every 20 s unless something else was sent.
	p.a.acts, p.b.acts = nil, nil
	p.run(61 * time.Second)
	if k, _ := last[Keepalive](p.a); count[Keepalive](p.a) != 3 || count[Keepalive](p.b) != 0 || k.Remote != ap(addrB, 4500) {
		t.Errorf("%d and %d keepalives, %+v", count[Keepalive](p.a), count[Keepalive](p.b), k)
	}
	// A rekey substitutes again.
	p.step(p.a, RekeyChild{ca.Child})
	p.run(time.Second)
	p.settled("rekeyed through the NAT")
	if c := p.b.one(t); c.SawRemote != inside {
		t.Errorf("b saw %v", c.SawRemote)
	}
	p.step(p.b, RekeyChild{p.b.one(t).Child}) // and the other way round
	p.run(time.Second)
	p.settled("rekeyed through the NAT from outside")
	if c := p.b.one(t); c.SawRemote != inside || c.Remote.String() != host(outside) || p.a.one(t).Local.String() != host(inside) {
		t.Errorf("%s, b saw %v", describe(c), c.SawRemote)
	}
}

// The responder is behind a NAT that forwards its ports.
func TestResponderBehindNAT(t *testing.T) {
	p := newPair(t, 81, plain(), plain())
	p.carry = (&box{p.b, 0}).carry
	i := p.initiation(p.a)
	i.Remote = ap(outside, portIKE)
	i.Child.Remote = selector.Set{selector.Host(outside)}
	p.step(p.a, i)
	p.run(time.Second)
	p.matched()
	ua := p.a.up[i.SA]
	if ua.NAT.Us || !ua.NAT.Peer {
		t.Fatalf("%+v", ua.NAT)
	}
	ca, cb := p.a.one(t), p.b.one(t)
	if cb.Local.String() != "10.0.0.5/32" || cb.SawLocal != outside || ca.Remote.String() != "198.51.100.1/32" || ca.SawRemote != inside {
		t.Errorf("%s %v\n%s %v", describe(ca), ca.SawRemote, describe(cb), cb.SawLocal)
	}
}

// RFC 7296 §2.23.1, step 5: where transport mode is not allowed the substitution is undone for a tunnel.
func TestNATFallsBackToTunnel(t *testing.T) {
	p := newPair(t, 82, plain(), plain())
	_, i := behindNAT(p, 0)
	var asked []JudgeChild
	p.b.judgeChild = func(q JudgeChild, v ChildJudged) ChildJudged {
		asked = append(asked, q)
		if q.Mode == protect.Transport {
			v.Refuse = errors.New("tunnels only")
		}
		return v
	}
	p.step(p.a, i)
	p.run(time.Second)
	p.matched()
	if len(asked) != 2 || asked[0].Remote.String() != "198.51.100.1/32" || asked[1].Remote.String() != "10.0.0.5/32" || asked[1].Mode != protect.Tunnel {
		t.Fatalf("%v", asked)
	}
	if c := p.a.one(t); c.Mode != protect.Tunnel || c.Local.String() != "10.0.0.5/32" {
		t.Errorf("%s", describe(c))
	}
	// An initiator that insists on transport mode deletes such a child.
	p = newPair(t, 83, plain(), plain())
	_, i = behindNAT(p, 0)
	i.Child.Strict = true
	p.b.judgeChild = func(_ JudgeChild, v ChildJudged) ChildJudged { v.Mode = protect.Tunnel; return v }
	p.step(p.a, i)
	p.run(time.Minute)
	if _, failed := last[ChildFailed](p.a); !failed || len(p.a.children)+len(p.b.children) != 0 || len(p.a.up) != 1 {
		t.Error("a child that is not what was insisted on")
	}
}

// RFC 7296 §2.23: a fresh authentic request from a new address moves the SA when its sender is behind a NAT; so does ESP;
// a replayed one does not, and nothing does when no NAT is there.
func TestNATRemap(t *testing.T) {
	p := newPair(t, 84, plain(), plain())
	nat, i := behindNAT(p, 0)
	var old []Send
	p.carry = func(from *node, s Send) []Send {
		if from == p.a {
			old = append(old, s)
		}
		return nat.carry(from, s)
	}
	p.step(p.a, i)
	p.run(time.Second)
	nat.shift = 77
	p.step(p.a, CheckAlive{i.SA})
	p.run(time.Second)
	m, ok := last[SAMoved](p.b)
	if !ok || m.Remote != ap(outside, 4577) || count[Proven](p.a) != 1 {
		t.Fatalf("%+v", m)
	}
	for _, s := range old { // from somewhere else again
		p.fly(p.b, Datagram{Local: s.Remote, Remote: ap(addrA, 9999), Data: s.Data})
	}
	p.run(time.Second)
	if count[SAMoved](p.b) != 1 {
		t.Error("a replay moved the SA")
	}
	var b Handle
	for b = range p.b.up {
		break
	}
	p.step(p.b, Moved{SA: b, Remote: ap(outside, 6000)})
	if m, _ = last[SAMoved](p.b); m.Remote != ap(outside, 6000) {
		t.Errorf("ESP did not move the SA: %+v", m)
	}
	if p.step(p.a, Moved{SA: i.SA, Remote: ap(outside, 6000)}); count[SAMoved](p.a) != 0 {
		t.Error("the one behind the NAT moved")
	}

	// The other IP version is no place to move to: the SAs are between addresses of one.
	if p.step(p.b, Moved{SA: b, Remote: ap(netip.MustParseAddr("2001:db8::7"), 6000)}); count[SAMoved](p.b) != 2 {
		t.Error("ESP moved the SA to the other IP version")
	}
	p.carry = func(from *node, s Send) []Send {
		if out := nat.carry(from, s); from != p.a {
			return out
		}
		s.Local = ap(netip.MustParseAddr("2001:db8::7"), 6000)
		return []Send{s}
	}
	p.step(p.a, CheckAlive{i.SA})
	p.run(100 * time.Millisecond)
	if count[SAMoved](p.b) != 2 {
		t.Error("IKE moved the SA to the other IP version")
	}

	p = newPair(t, 85, plain(), plain()) // no NAT
	a, _ := p.connect()
	p.carry = func(_ *node, s Send) []Send {
		s.Local = ap(addrA, 7777)
		return []Send{s}
	}
	p.step(p.a, CheckAlive{a})
	p.run(time.Second)
	if count[SAMoved](p.b) != 0 {
		t.Error("moved without a NAT")
	}
}

// What a peer that has moved is granted goes by the address at which it was authenticated, whoever rekeys: nothing says that
// the new one is its (RFC 7296 §2.23, §2.23.1).
func TestMovedPeerKeepsItsSelectors(t *testing.T) {
	stolen := netip.MustParseAddr("192.0.2.66")
	for name, who := range map[string]func(p *pair) *node{
		"the peer rekeys":  func(p *pair) *node { return p.a },
		"the other rekeys": func(p *pair) *node { return p.b },
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, 91, plain(), plain())
			nat, i := behindNAT(p, 0)
			p.step(p.a, i)
			p.run(time.Second)
			p.matched()
			p.carry = func(from *node, s Send) []Send { // from and to the stolen address
				if from == p.a {
					s.Local = ap(stolen, s.Local.Port())
					return []Send{s}
				}
				s.Remote = ap(outside, s.Remote.Port())
				return nat.carry(from, s)
			}
			p.step(p.a, CheckAlive{i.SA})
			p.run(time.Second)
			if m, ok := last[SAMoved](p.b); !ok || m.Remote.Addr() != stolen {
				t.Fatalf("%+v", m)
			}
			var asked []JudgeChild
			p.b.judgeChild = func(q JudgeChild, v ChildJudged) ChildJudged {
				asked = append(asked, q)
				return v
			}
			n := who(p)
			old := p.b.one(t).Child
			p.step(n, RekeyChild{n.one(t).Child})
			p.run(time.Second)
			p.settled("rekeyed after a move")
			c := p.b.one(t)
			if c.Child == old || c.Remote.String() != outside.String()+"/32" || c.OuterRemote.Addr() != stolen {
				t.Errorf("%s, sent to %v", describe(c), c.OuterRemote)
			}
			if len(asked) == 0 {
				t.Error("nobody was asked")
			}
			for _, q := range asked {
				if q.RemoteAddr != outside || q.Remote.String() != outside.String()+"/32" {
					t.Errorf("asked about %v at %v", q.Remote, q.RemoteAddr)
				}
			}
		})
	}
}

// In the initial exchanges the port may change, and not the address: the one that IKE_SA_INIT was answered to is the one that
// the peer has shown to be its (RFC 7296 §2.23).
func TestAddressBeforeAuthentication(t *testing.T) {
	stolen := netip.MustParseAddr("192.0.2.66")
	p := newPair(t, 92, plain(), plain())
	nat, i := behindNAT(p, 1000)
	first := true
	p.carry = func(from *node, s Send) []Send {
		out := nat.carry(from, s)
		if from == p.a && !first {
			out[0].Local = ap(stolen, out[0].Local.Port())
		}
		if from == p.b && s.Remote.Addr() == stolen {
			s.Remote = ap(outside, s.Remote.Port())
			return nat.carry(from, s)
		}
		first = first && from == p.a
		return out
	}
	p.step(p.a, i)
	p.run(time.Second)
	p.matched()
	for _, up := range p.b.up {
		if up.Remote != ap(outside, 5500) {
			t.Errorf("authenticated at %v", up.Remote)
		}
	}
	if c := p.b.one(t); c.Remote.String() != outside.String()+"/32" {
		t.Errorf("%s", describe(c))
	}
}

// The wish for UDP encapsulation: btns keeps NAT detection honest, a foreign peer sees a NAT (design.md).
func TestEncap(t *testing.T) {
	for _, c := range []struct {
		name             string
		a, b             bool // wishes
		foreignA, forB   bool
		natA, natB       NAT
		encapsulated4500 bool
	}{
		{name: "nobody"},
		{name: "initiator", a: true, natA: NAT{Encap: true}, natB: NAT{Encap: true}, encapsulated4500: true},
		{name: "responder", b: true, natA: NAT{Encap: true}, natB: NAT{Encap: true}, encapsulated4500: true},
		{name: "both", a: true, b: true, natA: NAT{Encap: true}, natB: NAT{Encap: true}, encapsulated4500: true},
		{name: "initiator, foreign responder", a: true, forB: true, natA: NAT{Encap: true}, natB: NAT{Peer: true}, encapsulated4500: true},
		{name: "responder, foreign initiator", b: true, foreignA: true, natA: NAT{Peer: true}, natB: NAT{Encap: true}, encapsulated4500: true},
	} {
		cfg := plain()
		cfg.Encap = c.b
		p := newPair(t, 86, plain(), cfg)
		p.a.foreign, p.b.foreign = c.foreignA, c.forB
		i := p.initiation(p.a)
		i.Encap = c.a
		p.step(p.a, i)
		p.run(time.Second)
		p.matched()
		var ub SAUp
		for _, ub = range p.b.up {
			break
		}
		ua := p.a.up[i.SA]
		if ua.NAT != c.natA || ub.NAT != c.natB || (ua.Remote.Port() == 4500) != c.encapsulated4500 {
			t.Errorf("%s: a %+v %v, b %+v", c.name, ua.NAT, ua.Remote, ub.NAT)
		}
		if ch := p.a.one(t); ch.Mode != protect.Transport || ch.SawLocal.IsValid() {
			t.Errorf("%s: %s repaired for nothing", c.name, describe(ch))
		}
	}
	// With a real NAT besides, btns still sees it.
	cfg := plain()
	cfg.Encap = true
	p := newPair(t, 87, plain(), cfg)
	_, i := behindNAT(p, 3)
	i.Encap = true
	p.step(p.a, i)
	p.run(time.Second)
	var ub SAUp
	for _, ub = range p.b.up {
		break
	}
	if want := (NAT{Peer: true, Encap: true}); ub.NAT != want {
		t.Errorf("%+v", ub.NAT)
	}
}

// A probe is polite: the first message has at most 600 octets, whatever is offered by default (design.md).
func TestFirstMessageIsSmall(t *testing.T) {
	p := newPair(t, 88, Config{}, plain())
	size := 0
	p.carry = func(_ *node, s Send) []Send {
		if size == 0 {
			size = len(s.Data)
		}
		return []Send{s}
	}
	i := p.initiation(p.a)
	i.Encap = true
	p.step(p.a, i)
	if size == 0 || size > 600 {
		t.Errorf("%d octets", size)
	}
}

// IPv6, and a port of the user's own that does not float (RFC 7296 §2.23).
func TestOtherPorts(t *testing.T) {
	p := newPair(t, 89, plain(), plain())
	i := p.initiation(p.a)
	v6a, v6b := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
	i.Local, i.Remote, i.Encap = ap(v6a, 7000), ap(v6b, 4500), true
	i.Child.Local, i.Child.Remote = selector.Set{selector.Host(v6a)}, selector.Set{selector.Host(v6b)}
	p.step(p.a, i)
	p.run(time.Second)
	p.settled("IPv6")
	if u := p.a.up[i.SA]; u.Local != i.Local || u.Remote != i.Remote {
		t.Errorf("%v %v", u.Local, u.Remote)
	}
	if c := p.a.one(t); c.OuterLocal != i.Local {
		t.Errorf("%v", c.OuterLocal)
	}
}
