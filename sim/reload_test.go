package sim

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/dataplane/flow"
	"github.com/btns-ipsec/btns/host"
	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/ikev2"
	"github.com/btns-ipsec/btns/policy"
	"github.com/btns-ipsec/btns/probe"
	"github.com/btns-ipsec/btns/protect"
	"github.com/btns-ipsec/btns/selector"
	"github.com/btns-ipsec/btns/trust"
)

// rules is a configuration of a's that begins as the default and is changed by a test.
type rules struct {
	before []policy.Entry // before the rest
	rest   policy.Unknown
	pad    []policy.PADEntry
	host.Reload
}

func (w *World) reload(a, b *Node, edit func(r *rules, b *Node)) host.Reload {
	r := rules{rest: policy.Unknown{Fallback: policy.Prefer, Waiting: policy.Pass}, pad: []policy.PADEntry{policy.Anyone()}}
	edit(&r, b)
	spd := slices.Concat(policy.Untouchable(), r.before, policy.Rest(r.rest))
	var err error
	if r.Policy, err = policy.New(spd, r.pad); err != nil {
		w.t.Fatalf("%s: policy: %v", a.Name, err)
	}
	return r.Reload
}

// about is an entry for all traffic with a node.
func about(n *Node, e policy.Entry) policy.Entry {
	e.Name, e.Source = "rule", "test:1"
	e.Local, e.Remote = selector.Any(), selector.Set{selector.Host(n.Addr)}
	if e.Action == policy.Protect {
		e.Mode, e.Lifetime = protect.Transport, policy.DefaultLifetime()
		if e.Offer == nil {
			e.Offer = policy.DefaultOffer(true)
		}
	}
	return e
}

// name makes n a configured peer that must show a key.
func (r *rules) name(n *Node, key identity.PublicKey) {
	here := selector.Set{selector.Host(n.Addr)}
	r.pad = append(r.pad, policy.PADEntry{Name: "b", Kind: policy.ByKey, Keys: []identity.PublicKey{key}, Addr: n.Addr, Constraint: here})
	r.before = append(r.before, about(n, policy.Entry{Action: policy.Protect, Peer: "b"}))
	r.Peers = append(r.Peers, host.Peer{
		Name: "b", Remote: n.Addr, Mode: protect.Transport, Offer: policy.DefaultOffer(true), Lifetime: policy.DefaultLifetime(),
		Self: ikev2.Local{ID: identity.Null(), Method: ikev2.Signature, SendKey: true},
	})
}

// What a reload does to a peer that is protected.
func TestReload(t *testing.T) {
	type outcome uint8
	const (
		kept    outcome = iota // the same SAs
		renewed                // others, with the next packets
		held                   // nothing leaves, there is nothing to expect soon
		dropped
		clear
	)
	for _, tc := range []struct {
		name string
		edit func(r *rules, b *Node)
		want outcome
	}{
		{"the same configuration", func(*rules, *Node) {}, kept},
		{"protection is required of everybody", func(r *rules, _ *Node) { r.rest.Fallback, r.rest.Waiting = policy.Require, policy.Hold }, kept},
		{"no stranger is tried any more", func(r *rules, _ *Node) { r.Probe.Mode = probe.Listed }, kept},
		{"only recorded keys are let in, and this one is", func(r *rules, _ *Node) { r.Trust = trust.Strict }, kept},
		{"the peer is named, with the key that it has", func(r *rules, b *Node) { r.name(b, b.cfg.Signer.Public) }, kept},
		{"a rule of its own that allows it", func(r *rules, b *Node) {
			r.before = append(r.before, about(b, policy.Entry{Action: policy.Protect, BtnsOK: true, MinAssurance: identity.FirstUse}))
		}, kept},
		{"the peer is named, with another key", func(r *rules, b *Node) {
			other, err := identity.NewEd25519(strings.NewReader(strings.Repeat("x", 64)))
			if err != nil {
				b.w.t.Fatalf("%v", err)
			}
			r.name(b, other.Public)
		}, held},
		{"strangers are no longer let in", func(r *rules, _ *Node) { r.pad = nil }, held},
		{"a rule wants a verified key", func(r *rules, b *Node) {
			r.before = append(r.before, about(b, policy.Entry{Action: policy.Protect, BtnsOK: true, MinAssurance: identity.Verified}))
		}, held},
		{"a rule wants an authenticated peer", func(r *rules, b *Node) {
			r.before = append(r.before, about(b, policy.Entry{Action: policy.Protect}))
		}, held},
		{"other algorithms", func(r *rules, _ *Node) {
			r.rest.Offer = []protect.Suite{{Encr: protect.ChaCha20Poly1305, KeyBits: 256, ESN: true}}
		}, renewed},
		{"its traffic is discarded", func(r *rules, b *Node) {
			r.before = append(r.before, about(b, policy.Entry{Action: policy.Discard}))
		}, dropped},
		{"its traffic is let pass", func(r *rules, b *Node) {
			r.before = append(r.before, about(b, policy.Entry{Action: policy.Bypass}))
		}, clear},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := New(t, 1)
			a, b := meet(w)
			was := pairs(a, b)
			got := a.Reload(w.reload(a, b, tc.edit))
			if got.Err != nil {
				w.Fail("refused: %v", got.Err)
			}
			action := map[outcome]flow.Action{kept: flow.Seal, held: flow.Queue, renewed: flow.Queue, dropped: flow.Drop, clear: flow.Pass}[tc.want]
			f := selector.Flow{Proto: appProto, Local: a.Addr, Remote: b.Addr}
			if v := a.table.Out(&f); v.Action != action {
				w.Fail("at once: the verdict on a packet is %v, want %v", v.Action, action)
			}
			if ended := a.Reports[host.Unprotected] > 0; ended != (tc.want != kept) {
				w.Fail("the operator was told of an end: %v", ended)
			}
			chatter(w, 20*time.Second, a, b)
			switch {
			case tc.want == kept || tc.want == renewed:
				w.CheckWorks(a, b)
				w.CheckOnePair(a, b)
				if same := slices.Equal(pairs(a, b), was); same != (tc.want == kept) {
					w.Fail("the SAs are the same: %v", same)
				}
			case a.Pairs(b) != 0 || b.Pairs(a) != 0:
				w.Fail("%d and %d SA pairs are left", a.Pairs(b), b.Pairs(a))
			}
			if v := a.table.Out(&f); tc.want != renewed && v.Action != action {
				w.Fail("later: the verdict on a packet is %v, want %v", v.Action, action)
			}
			w.CheckNoPromises(a)

			// And back again: what is allowed once more is protected once more.
			if got := a.Reload(w.reload(a, b, func(*rules, *Node) {})); got.Err != nil {
				w.Fail("refused: %v", got.Err)
			}
			chatter(w, 90*time.Second, a, b)
			w.CheckWorks(a, b)
			w.CheckOnePair(a, b)
		})
	}
}

func pairs(n, o *Node) (spis []uint32) {
	v, _ := n.view(o)
	for _, c := range v.Children {
		spis = append(spis, c.SPIIn, c.SPIOut)
	}
	return spis
}

// A configuration that cannot be put in force changes nothing.
func TestReloadIsAllOrNothing(t *testing.T) {
	w := New(t, 1)
	a, b := meet(w)
	for name, bad := range map[string]host.Reload{
		"no policy": {},
		"two peers at one address": w.reload(a, b, func(r *rules, b *Node) {
			r.name(b, b.cfg.Signer.Public)
			r.pad = r.pad[1:] // and nobody else
			r.Peers = append(r.Peers, r.Peers[0])
		}),
	} {
		was, table := pairs(a, b), a.table
		if got := a.Reload(bad); got.Err == nil || got.Changes != nil {
			t.Errorf("%s: %+v", name, got)
		}
		if !slices.Equal(pairs(a, b), was) || a.table != table {
			t.Errorf("%s: something was changed", name)
		}
		w.CheckWorks(a, b)
	}
}

// Reloads at any moment of a handshake or rekey, over a bad wire, on both ends: afterwards everything works, and nothing
// is left over.
func TestReloadAtAnyMoment(t *testing.T) {
	seeds(t, 40, func(t *testing.T, seed uint64) {
		w := New(t, seed)
		a, b := w.Host("a"), w.Host("b")
		w.SetLink(bad)
		edits := []func(r *rules, b *Node){
			func(*rules, *Node) {},
			func(r *rules, b *Node) { r.name(b, b.cfg.Signer.Public) },
			func(r *rules, _ *Node) { r.pad = nil },
			func(r *rules, b *Node) { r.before = append(r.before, about(b, policy.Entry{Action: policy.Discard})) },
			func(r *rules, _ *Node) { r.rest.Fallback, r.rest.Waiting = policy.Require, policy.Hold },
		}
		w.After(0, func() { a.Send(b); b.Send(a) })
		for range 12 {
			w.After(time.Duration(w.rnd.IntN(20_000))*time.Millisecond, func() {
				n, o := a, b
				if w.rnd.IntN(2) == 0 {
					n, o = b, a
				}
				n.Reload(w.reload(n, o, edits[w.rnd.IntN(len(edits))]))
				n.spend()
			})
		}
		chatter(w, 25*time.Second, a, b)
		w.SetLink(Link{Delay: 5 * time.Millisecond})
		for _, n := range []*Node{a, b} {
			n.Reload(w.reload(n, n, edits[0]))
		}
		chatter(w, 3*time.Minute, a, b)
		w.CheckWorks(a, b)
		if n, m := a.Pairs(b), b.Pairs(a); n != m || n > 2 { // two children can cross; nobody is to end either
			w.Fail("%d and %d SA pairs", n, m)
		}
		w.CheckNoPromises(a, b)
	})
}

// A policy that requires protection holds the first packet to a stranger too; one that discards closes the address.
func TestRulesAreReloaded(t *testing.T) {
	w := New(t, 1)
	a, b, c := w.Host("a"), w.Host("b"), w.Host("c")
	out := func(to netip.Addr) flow.Action {
		v := a.table.Out(&selector.Flow{Proto: appProto, Local: a.Addr, Remote: to})
		return v.Action
	}
	require := func(r *rules, _ *Node) { r.rest.Fallback, r.rest.Waiting = policy.Require, policy.Hold }
	for _, tc := range []struct {
		name string
		edit func(r *rules, b *Node)
		want map[string]flow.Action
	}{
		{"prefer", func(*rules, *Node) {}, map[string]flow.Action{"8.8.8.8": flow.Pass}},
		{"require", require, map[string]flow.Action{
			"8.8.8.8": flow.Queue, "2001:db8::1": flow.Queue, "fd00::1": flow.Queue, "64:ff9b::1": flow.Queue, "10.0.0.1": flow.Queue,
			"127.0.0.1": flow.Pass, "224.0.0.251": flow.Pass, "255.255.255.255": flow.Pass, "169.254.1.1": flow.Pass,
			"fe80::1": flow.Pass, "ff02::1": flow.Pass, "::1": flow.Pass, "223.255.255.255": flow.Queue, "239.255.255.255": flow.Pass,
		}},
		{"require, but not of b", func(r *rules, b *Node) {
			require(r, b)
			r.before = append(r.before, about(b, policy.Entry{Action: policy.Bypass}))
		}, map[string]flow.Action{b.Addr.String(): flow.Pass, c.Addr.String(): flow.Queue}},
		{"require, but not of b's port 22", func(r *rules, b *Node) {
			require(r, b)
			e := about(b, policy.Entry{Action: policy.Bypass})
			e.Remote[0].Proto, e.Remote[0].Ports = selector.TCP, selector.PortRange{From: 22, To: 22}
			r.before = append(r.before, e)
		}, map[string]flow.Action{b.Addr.String(): flow.Queue, c.Addr.String(): flow.Queue}},
		{"discard b", func(r *rules, b *Node) {
			r.before = append(r.before, about(b, policy.Entry{Action: policy.Discard}))
		}, map[string]flow.Action{b.Addr.String(): flow.Drop, c.Addr.String(): flow.Pass}},
		{"discard b, after a rule for it", func(r *rules, b *Node) {
			r.before = append(r.before, about(b, policy.Entry{Action: policy.Bypass}), about(b, policy.Entry{Action: policy.Discard}))
		}, map[string]flow.Action{b.Addr.String(): flow.Pass}},
	} {
		if got := a.Reload(w.reload(a, b, tc.edit)); got.Err != nil {
			t.Fatal(got.Err)
		}
		for addr, want := range tc.want {
			if got := out(netip.MustParseAddr(addr)); got != want {
				t.Errorf("%s: a packet to %s: %v, want %v", tc.name, addr, got, want)
			}
		}
	}
	a.Reload(w.reload(a, b, func(*rules, *Node) {}))
	n := 0
	a.table.Prefixes(func(netip.Prefix, flow.State) bool { n++; return true })
	if n != 0 {
		t.Errorf("%d prefixes are left", n)
	}
}

// A host that requires protection of everybody still speaks to its gateway when that cannot protect, in the network that it
// is in, and protects it when it can. In another network the same address is nobody special.
func TestNoRuleLocksTheGatewayOut(t *testing.T) {
	w := New(t, 1)
	a, b, gateway := w.Host("a"), w.Host("b"), w.Host("gateway")
	gateway.Kill()
	b.Kill()
	require := func(r *rules, _ *Node) { r.rest.Fallback, r.rest.Waiting = policy.Require, policy.Hold }
	if got := a.Reload(w.reload(a, b, require)); got.Err != nil {
		t.Fatal(got.Err)
	}
	out := func(to *Node) flow.Action {
		f := selector.Flow{Proto: appProto, Local: a.Addr, Remote: to.Addr}
		v := a.table.Out(&f)
		return v.Action
	}
	home := host.Surroundings{Network: "home", Essential: []netip.Addr{gateway.Addr}}
	for _, tc := range []struct {
		around host.Surroundings
		want   flow.Action
	}{{host.Surroundings{}, flow.Queue}, {home, flow.Pass}, {host.Surroundings{Network: "café"}, flow.Queue}, {home, flow.Pass}} {
		a.step(tc.around)
		for range 3 {
			a.Send(gateway)
			a.Send(b)
			w.Run(20 * time.Second)
			if g, other := out(gateway), out(b); g != tc.want || other != flow.Queue {
				w.Fail("in network %q: packets to the gateway: %v, want %v; to others: %v", tc.around.Network, g, tc.want, other)
			}
		}
	}
	if got := a.Reload(w.reload(a, gateway, func(r *rules, g *Node) {
		require(r, g)
		r.before = append(r.before, about(g, policy.Entry{Action: policy.Discard}))
	})); got.Err != nil || out(gateway) != flow.Pass {
		w.Fail("a rule locks the gateway out: %v, %v", out(gateway), got.Err)
	}
	a.Reload(w.reload(a, b, require))
	gateway.Boot()
	w.Run(2 * time.Hour) // whatever pause there is
	a.Send(gateway)
	w.RunUntil(time.Minute, "the gateway is protected", func() bool { return a.Protected(gateway) })
}
