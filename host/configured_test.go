package host

import (
	"net/netip"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/dataplane"
	"github.com/btns-ipsec/btns/dataplane/flow"
	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/ikev2"
	"github.com/btns-ipsec/btns/policy"
	"github.com/btns-ipsec/btns/protect"
	"github.com/btns-ipsec/btns/selector"
)

// tunnel is a configured gateway and what lies behind it.
type tunnel struct {
	name   string
	remote netip.Addr
	inside string
}

// keyOf is the box that a test gives an address.
var keyOf = map[netip.Addr]string{addrA: "a", addrB: "b", addrC: "c"}

func entry(t testing.TB, name string, remote netip.Addr, mode protect.Mode, inside selector.Set) (policy.PADEntry, policy.Entry) {
	k := key(t, keyOf[remote]).Public
	pad := policy.PADEntry{
		Name: name, Kind: policy.ByKey, Keys: []identity.PublicKey{k}, Addr: remote, Constraint: inside, Search: policy.ByName,
	}
	return pad, policy.Entry{
		Name: name, Action: policy.Protect, Mode: mode, Peer: name, Local: selector.Any(), Remote: inside,
		Fallback: policy.Require, Offer: policy.DefaultOffer(true), Lifetime: policy.DefaultLifetime(),
	}
}

func configured(t testing.TB, peers []Peer, sets []selector.Set) func(*Config) {
	return func(c *Config) {
		spd := policy.Untouchable()
		var pad []policy.PADEntry
		for i := range peers {
			p, s := entry(t, peers[i].Name, peers[i].Remote, peers[i].Mode, sets[i])
			pad, spd = append(pad, p), append(spd, s)
			peers[i].Self = ikev2.Local{Method: ikev2.Signature, SendKey: true, ID: identity.Null()}
			peers[i].Offer, peers[i].Lifetime = s.Offer, s.Lifetime
		}
		var err error
		c.Policy, err = policy.New(append(spd, policy.Rest(policy.Unknown{Fallback: policy.Prefer, Waiting: policy.Pass})...),
			append(pad, policy.Anyone()))
		if err != nil {
			t.Fatal(err)
		}
		c.Peers = peers
	}
}

// tunnels configures gateways; 172.20.0.0/16 lies behind this one.
func tunnels(t testing.TB, start Start, list ...tunnel) func(*Config) {
	var peers []Peer
	var sets []selector.Set
	for _, x := range list {
		inside := netip.MustParsePrefix(x.inside)
		peers = append(peers, Peer{
			Name: x.name, Remote: x.remote, Mode: protect.Tunnel, Start: start,
			InsideLocal:  []netip.Prefix{netip.MustParsePrefix("172.20.0.0/16")},
			InsideRemote: []netip.Prefix{inside},
		})
		sets = append(sets, selector.Set{selector.Prefix(inside)})
	}
	return configured(t, peers, sets)
}

// transport configures one host.
func transport(t testing.TB, start Start, remote netip.Addr, edit ...func(*Peer)) func(*Config) {
	p := Peer{Name: "partner", Remote: remote, Mode: protect.Transport, Start: start}
	for _, f := range edit {
		f(&p)
	}
	return configured(t, []Peer{p}, []selector.Set{{selector.Host(remote)}})
}

// A configured peer is closed from the start on, whoever begins.
func TestConfiguredStart(t *testing.T) {
	for _, c := range []struct {
		name   string
		start  Start
		begins bool // by itself
		packet bool // by a packet
	}{
		{"on demand", StartOnDemand, false, true},
		{"up", StartUp, true, true},
		{"listen", StartListen, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.lose = nobody
			a := w.box("a", addrA, transport(t, c.start, addrB))
			w.settle()
			a.want(addrB, StateNegotiating, flow.Hold)
			if got := len(a.sent) > 0; got != c.begins {
				t.Errorf("begins by itself: %v", got)
			}
			a.acquire(addrB)
			if got := len(a.sent) > 0; got != c.packet {
				t.Errorf("begins on a packet: %v", got)
			}
			a.want(addrB, StateNegotiating, flow.Hold)
		})
	}
}

// Whoever begins, a configured pair ends up protected and verified, without a moment in clear; in both modes.
func TestConfiguredPeers(t *testing.T) {
	inside := netip.MustParsePrefix("10.2.0.0/16")
	there := netip.MustParsePrefix("172.20.0.0/16")
	for _, c := range []struct {
		name   string
		a, b   func(*Config)
		prefix netip.Prefix
	}{
		{"transport", transport(t, StartUp, addrB), transport(t, StartListen, addrA), netip.PrefixFrom(addrB, 32)},
		{"childless", transport(t, StartUp, addrB, func(p *Peer) { p.Childless = true }), transport(t, StartListen, addrA), netip.PrefixFrom(addrB, 32)},
		{"tunnel", tunnels(t, StartUp, tunnel{"gate", addrB, "10.2.0.0/16"}), func(c *Config) {
			tunnels(t, StartListen, tunnel{"gate", addrA, "172.20.0.0/16"})(c)
			c.Peers[0].InsideLocal = []netip.Prefix{inside}
		}, inside},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			b := w.box("b", addrB, c.b)
			a := w.box("a", addrA, c.a)
			w.settle()
			if c.name == "childless" {
				a.want(addrB, StateNegotiating, flow.Hold)
				a.acquire(addrB)
			}
			if a.state(addrB) != StateProtected || b.state(addrA) != StateProtected || a.prefixes[c.prefix] != flow.Protect {
				t.Fatalf("%v and %v, %v\n%s%s", a.state(addrB), b.state(addrA), a.prefixes, a.story(), b.story())
			}
			for _, s := range append(a.order, b.order...) {
				if s == flow.Clear || s == flow.Upgrade {
					t.Fatalf("the plane was told %v", s)
				}
			}
			if v := a.h.Peers(w.now)[0]; v.Assurance != identity.Verified || v.Name == "" || len(v.Children) != 1 {
				t.Fatalf("%+v", v)
			}
			if c.name == "tunnel" {
				v := b.h.Peers(w.now)[0].Children[0]
				if v.Mode != protect.Tunnel || v.Remote != there.String() {
					t.Fatalf("%+v", v)
				}
			}
		})
	}
}

// StartUp tries again by itself; the others wait for a packet.
func TestConfiguredRetries(t *testing.T) {
	w := newWorld(t)
	w.lose = nobody
	a := w.box("a", addrA, transport(t, StartUp, addrB))
	w.pass(3 * time.Minute)
	if a.count(Outage) == 0 {
		t.Fatal("no outage was told")
	}
	b := w.box("b", addrB, transport(t, StartListen, addrA))
	w.lose = nil
	w.pass(3 * time.Minute)
	a.want(addrB, StateProtected, flow.Protect)
	b.do(Down{addrA}) // and when the peer deletes the SAs
	w.pass(time.Second)
	a.want(addrB, StateProtected, flow.Protect)
}

// Another key than the configured one is refused (BTNS-CORE-07), on both sides, and nothing flows.
func TestConfiguredWrongKey(t *testing.T) {
	w := newWorld(t)
	a := w.box("a", addrA, transport(t, StartOnDemand, addrB))
	w.box("evil", addrB)
	a.acquire(addrB)
	w.pass(time.Second)
	a.want(addrB, StateOutage, flow.Hold)
	if a.h.sas.Len() != 0 || a.count(PeerRefused) == 0 {
		t.Fatalf("%d pairs\n%s", a.h.sas.Len(), a.story())
	}
}

// A peer that nobody vouches for gets none of what lies behind a configured gateway (BTNS-CORE-11).
func TestHeldByOthers(t *testing.T) {
	w := newWorld(t)
	w.box("b", addrB, func(c *Config) {
		tunnels(t, StartListen, tunnel{"gate", addrA, "172.20.0.0/16"})(c)
		c.Peers[0].InsideLocal = []netip.Prefix{netip.MustParsePrefix("203.0.113.3/32")}
	})
	a := w.box("a", addrA, tunnels(t, StartUp, tunnel{"gate", addrB, "203.0.113.3/32"}))
	w.settle()
	a.want(addrC, StateClear, flow.Protect) // by the gateway's prefix
	c := w.box("c", addrC)
	c.acquire(addrA)
	if a.h.sas.Len() != 1 || c.h.sas.Len() != 0 {
		t.Fatalf("%d and %d pairs", a.h.sas.Len(), c.h.sas.Len())
	}
}

// Two peers with one address would make one of them unreachable.
func TestSameAddressTwice(t *testing.T) {
	cfg := Config{Signer: key(t, "a"), IKE: quick()}
	tunnels(t, StartUp, tunnel{"one", addrB, "10.0.0.0/8"}, tunnel{"two", addrB, "10.1.0.0/16"})(&cfg)
	if _, err := New(cfg, chance("x")); err == nil {
		t.Fatal("accepted")
	}
}

// Whoever has not been told an ID asserts the address that is used.
func TestSelfAt(t *testing.T) {
	var p Peer
	if id := p.selfAt(addrA).ID; id != identity.AddrID(addrA) {
		t.Errorf("%v", id)
	}
	p.Self.ID = identity.Null()
	if id := p.selfAt(addrA).ID; id != identity.Null() {
		t.Errorf("%v", id)
	}
}

// What is said of the IKE SAs with a peer holds whoever begins.
func TestOverrideOfResponder(t *testing.T) {
	for _, o := range []*ikev2.Override{nil, {Liveness: 2 * time.Second}} {
		w := newWorld(t)
		a := w.box("a", addrA, transport(t, StartListen, addrB, func(p *Peer) { p.IKE = o }))
		b := w.box("b", addrB, transport(t, StartUp, addrA))
		w.pass(time.Second)
		a.want(addrB, StateProtected, flow.Protect)
		b.kill()
		before := a.exchanges(informational)
		w.pass(5 * time.Second)
		if asked := a.exchanges(informational) > before; asked != (o != nil) {
			t.Errorf("%+v: asked whether the peer lives: %v", o, asked)
		}
	}
}

// A peer of a tunnel leaves the source address to the system, others have that of the SA.
func TestInsideLocal(t *testing.T) {
	w := newWorld(t)
	w.lose = nobody
	a := w.box("a", addrA, tunnels(t, StartUp, tunnel{"gate", addrB, "10.2.0.0/16"}))
	w.settle()
	if l := a.h.insideLocal(a.h.peers[addrB]); l.IsValid() {
		t.Errorf("%v", l)
	}
	a.plane(dataplane.AddressChanged{})
	a.acquire(addrC)
	if l := a.h.insideLocal(a.h.peers[addrC]); l != addrA {
		t.Errorf("%v", l)
	}
}
