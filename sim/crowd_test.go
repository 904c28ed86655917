package sim

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/dataplane"
	"github.com/btns-ipsec/btns/dataplane/flow"
	"github.com/btns-ipsec/btns/host"
	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/ikev2"
	"github.com/btns-ipsec/btns/policy"
	"github.com/btns-ipsec/btns/protect"
	"github.com/btns-ipsec/btns/selector"
	"github.com/btns-ipsec/btns/trust"
)

// few has room for so many IKE SAs: three quarters of them for strangers, of these one in fifty for each network.
func few(sas, halfOpen int) func(*host.Config) {
	return func(c *host.Config) { c.IKE.MaxSAs, c.IKE.MaxHalfOpen = sas, halfOpen }
}

// come has nodes send to v until nothing changes any more, and counts those that are protected.
func (w *World) come(v *Node, nodes ...*Node) (in int) {
	for range 10 {
		for _, n := range nodes {
			n.Send(v)
			w.Run(50 * time.Millisecond)
		}
		w.Run(time.Second)
	}
	for _, n := range nodes {
		if n.Protected(v) {
			in++
		}
	}
	return in
}

// at makes a node with an address of its own.
func (w *World) at(name, addr string, edit ...func(*host.Config)) *Node {
	n := w.Host(name, edit...)
	n.Place(netip.MustParseAddr(addr))
	return n
}

func TestCrowdFromOneNetwork(t *testing.T) {
	t.Run("BTNS-CORE-63 established IKE SAs are limited by network", func(t *testing.T) {
		w := New(t, 1)
		v := w.at("v", "198.51.100.1", few(400, 40)) // 300 strangers, 6 of one network
		var crowd []*Node
		for i := range 12 {
			crowd = append(crowd, w.at(fmt.Sprint("n", i), fmt.Sprintf("203.0.113.%d", 10+i)))
		}
		if in := w.come(v, crowd...); in != 6 {
			w.Fail("%d strangers of one network are let in", in)
		}
		elsewhere := w.at("elsewhere", "203.0.114.1")
		if w.come(v, elsewhere) != 1 {
			w.Fail("a stranger of another network is kept out")
		}
		verified := w.at("verified", "203.0.113.200")
		v.step(host.Verify{Addr: verified.Addr, Key: verified.cfg.Signer.Public.Fingerprint()})
		v.step(host.Accept{Addr: verified.Addr, Key: verified.cfg.Signer.Public.Fingerprint()})
		v.step(host.Verify{Addr: verified.Addr, Key: verified.cfg.Signer.Public.Fingerprint()})
		called := w.at("called", "203.0.113.201")
		v.Send(called)
		if w.come(v, verified, called) != 2 {
			w.Fail("who is known is kept out with the strangers of its network: %v, %v", verified.Protected(v), called.Protected(v))
		}
		if s := v.host.Status(w.now); s.Drops[string(host.Crowded)] == 0 || v.Reasons[host.Crowded] == 0 {
			w.Fail("nobody is told: %v, %v", s.Drops, v.Reasons)
		}
		for _, n := range crowd { // whoever goes makes room
			if n.Protected(v) {
				n.Shutdown()
				break
			}
		}
		w.Run(time.Minute)
		if in := w.come(v, crowd...); in != 6 {
			w.Fail("%d strangers of one network are let in after one has gone", in)
		}
	})
}

func TestCrowdGivesWay(t *testing.T) {
	t.Run("BTNS-CORE-64 strangers give way first, and known peers always find room", func(t *testing.T) {
		w := New(t, 2)
		v := w.at("v", "198.51.100.1", few(32, 4)) // 24 strangers, one of each network
		var strangers, friends []*Node
		for i := range 26 {
			strangers = append(strangers, w.at(fmt.Sprint("s", i), fmt.Sprintf("10.0.%d.1", i)))
		}
		if in := w.come(v, strangers...); in != 24 {
			w.Fail("%d strangers are let in", in)
		}
		for i := range 20 {
			f := w.at(fmt.Sprint("f", i), fmt.Sprintf("10.9.%d.1", i))
			v.step(host.Accept{Addr: f.Addr, Key: f.cfg.Signer.Public.Fingerprint()})
			v.step(host.Verify{Addr: f.Addr, Key: f.cfg.Signer.Public.Fingerprint()})
			friends = append(friends, f)
			if w.come(v, f) != 1 {
				w.Fail("friend %d finds no room", i)
			}
		}
		if in := w.come(v, friends...); in != len(friends) {
			w.Fail("%d of %d friends are there in the end", in, len(friends))
		}
		s := v.host.Status(w.now)
		if s.IKESAs > 32 || s.Drops[string(host.Evicted)] < 12 || v.Reasons[host.Evicted] == 0 || v.Reasons[host.Evicted] > 40 {
			w.Fail("%d IKE SAs, %v, told %v", s.IKESAs, s.Drops, v.Reasons)
		}
	})
	t.Run("BTNS-CORE-64 a stranger that was silent for long gives way to another one", func(t *testing.T) {
		w := New(t, 3)
		v := w.at("v", "198.51.100.1", few(8, 2)) // 6 strangers
		var strangers []*Node
		for i := range 7 {
			strangers = append(strangers, w.at(fmt.Sprint("s", i), fmt.Sprintf("10.0.%d.1", i)))
		}
		if in := w.come(v, strangers[:6]...); in != 6 {
			w.Fail("%d are in", in)
		}
		if w.come(v, strangers[6]) != 0 {
			w.Fail("one too many")
		}
		for range 8 { // all but the first go on
			for _, n := range strangers[1:6] {
				n.Send(v)
			}
			w.Run(time.Minute)
		}
		neighbour := w.at("neighbour", "10.0.1.9") // of a network that has its share
		if w.come(v, neighbour) != 0 || v.host.Status(w.now).Drops[string(host.Evicted)] != 0 {
			w.Fail("somebody gives way to one who is turned away")
		}
		if w.come(v, strangers[6]) != 1 || strangers[0].Protected(v) || !strangers[1].Protected(v) {
			w.Fail("the newcomer is in: %v; the silent one: %v; a busy one: %v", strangers[6].Protected(v), strangers[0].Protected(v), strangers[1].Protected(v))
		}
	})
}

func TestFloodOfKeys(t *testing.T) {
	t.Run("BTNS-CORE-63 new keys from one address are limited, and that is told", func(t *testing.T) {
		w := New(t, 4)
		v, x := w.at("v", "198.51.100.1"), w.at("x", "203.0.113.66")
		known := w.at("known", "203.0.113.7")
		w.come(v, known)
		v.Send(known)
		v.Send(known)
		w.Run(5 * time.Second)
		computed := 0
		for i := range 500 {
			signer, err := identity.NewEd25519(bytes.NewReader(bytes.Repeat([]byte{byte(i), byte(i >> 8)}, 16)))
			if err != nil {
				t.Fatal(err)
			}
			x.Kill()
			x.store = make(map[string]trust.Record)
			x.cfg.Signer = signer
			x.Boot()
			x.Send(v)
			w.Run(30 * time.Millisecond)
			if x.Protected(v) {
				computed++
			}
		}
		s := v.host.Status(w.now)
		if n := s.Drops[string(host.Flood)]; n < 100 || computed > 350 || v.Reasons[host.Flood] == 0 || v.Reasons[host.Flood] > 5 {
			w.Fail("%d of 500 keys are turned away, %d let in, told %d times", n, computed, v.Reasons[host.Flood])
		}
		w.Run(2 * time.Minute)
		if w.come(v, x) != 1 {
			w.Fail("nobody is let in from there any more")
		}
		if w.come(v, known) != 1 {
			w.Fail("somebody else is kept out")
		}
	})
}

// anonymous is a peer without a key that asks v for a tunnel from an address of its own.
func anonymous(t *testing.T, v *Node, at, claim string) func(*host.Config) {
	peer := gatewayed(t, "them", "x.example", v.Addr.String(), claim, "10.0.0.0/8")
	peer.Local, peer.Start, peer.Self = netip.MustParseAddr(at), host.StartUp, ikev2.Local{ID: identity.Null(), Method: ikev2.Null}
	entry := policy.Entry{
		Name: "all", Action: policy.Protect, Mode: protect.Tunnel, Peer: "them", Local: selector.Any(), Remote: selector.Any(),
		Offer: policy.DefaultOffer(true), Lifetime: policy.DefaultLifetime(),
	}
	p, err := policy.New([]policy.Entry{entry}, []policy.PADEntry{anybody("them")})
	if err != nil {
		t.Fatal(err)
	}
	return func(c *host.Config) { c.Policy, c.Peers = p, []host.Peer{peer} }
}

// gateway serves anonymous peers that have addresses in 10.9/16.
func gateway(t *testing.T) func(*host.Config) {
	entry := policy.Entry{
		Name: "guests", Action: policy.Protect, Mode: protect.Tunnel, Local: selector.Any(), Remote: traffic(t, "10.9.0.0/16"), NullOK: true,
		Offer: policy.DefaultOffer(true), Lifetime: policy.DefaultLifetime(),
	}
	guests := policy.Anonymous()
	guests.Constraint = traffic(t, "10.9.0.0/16")
	p, err := policy.New([]policy.Entry{entry}, []policy.PADEntry{guests})
	if err != nil {
		t.Fatal(err)
	}
	return func(c *host.Config) { c.Policy = p }
}

func TestAnonymousPeers(t *testing.T) {
	addr := netip.MustParseAddr
	meet := func(t *testing.T) (w *World, v, a, b *Node) {
		w = New(t, 5)
		v = w.at("v", "198.51.100.1", gateway(t))
		a = w.at("a", "203.0.113.1", anonymous(t, v, "203.0.113.1", "10.9.0.1"))
		w.Run(5 * time.Second)
		b = w.at("b", "203.0.113.2", anonymous(t, v, "203.0.113.2", "10.9.0.2"))
		w.Run(5 * time.Second)
		return w, v, a, b
	}
	t.Run("BTNS-NULL-10 peers without a key reach this host, and not each other", func(t *testing.T) {
		w, v, a, b := meet(t)
		for _, tc := range []struct {
			from     *Node
			src, dst string
			want     int
		}{{a, "10.9.0.1", "10.1.1.1", 1}, {b, "10.9.0.2", "10.1.1.1", 1}, {b, "10.9.0.2", "10.9.0.1", 0}} {
			before := v.tally(addr(tc.src)).Protected
			tc.from.transmit(packet(addr(tc.src), addr(tc.dst)))
			w.Run(time.Second)
			if got := v.tally(addr(tc.src)).Protected - before; got != tc.want {
				w.Fail("%d packets from %s to %s", got, tc.src, tc.dst)
			}
		}
		before := count(v.Sent, addr("10.9.0.2")).Protected
		v.transmit(packet(addr("10.9.0.1"), addr("10.9.0.2"))) // as the gateway would forward it
		v.transmit(packet(addr("10.1.1.1"), addr("10.9.0.2")))
		w.Run(time.Second)
		if got := count(v.Sent, addr("10.9.0.2")).Protected - before; got != 1 {
			w.Fail("%d packets went to b, want that of the gateway's network", got)
		}
	})
	t.Run("BTNS-NULL-10 none takes what another one has", func(t *testing.T) {
		w, v, a, _ := meet(t)
		c := w.at("c", "203.0.113.3", anonymous(t, v, "203.0.113.3", "10.9.0.0/24"))
		for range 20 {
			a.transmit(packet(addr("10.9.0.1"), addr("10.1.1.1")))
			w.Run(time.Second)
		}
		view, _ := v.view(c)
		if len(view.Children) != 1 || view.Children[0].Remote != "10.9.0.0/32, 10.9.0.3-10.9.0.255" {
			w.Fail("c has %+v", view.Children)
		}
		if view, _ := v.view(a); len(view.Children) != 1 {
			w.Fail("a has %+v", view.Children)
		}
	})
	t.Run("BTNS-NULL-11 what a dead one has is free for the next one that asks", func(t *testing.T) {
		w, v, a, _ := meet(t)
		a.Kill()
		c := w.at("c", "203.0.113.3", anonymous(t, v, "203.0.113.3", "10.9.0.1"))
		began := w.now
		w.RunUntil(30*time.Second, "c is served", func() bool {
			if w.now.Sub(began) > time.Second {
				began = w.now
				c.transmit(packet(addr("10.9.0.1"), addr("10.1.1.1")))
			}
			return v.tally(addr("10.9.0.1")).Protected > 0
		})
	})
	t.Run("BTNS-NULL-11 idle ones are asked whether they live", func(t *testing.T) {
		w, v, a, b := meet(t)
		a.Kill()
		w.Run(3 * time.Minute)
		if view, ok := v.view(a); ok && len(view.Children) > 0 {
			w.Fail("a is dead, and has %+v", view.Children)
		}
		if view, _ := v.view(b); len(view.Children) != 1 {
			w.Fail("b lives, and has %+v", view.Children)
		}
	})
}

// Addresses that must be protected and do not answer may be as many as a program cares to try: attempts at once and what is
// remembered of them are bounded, and their traffic is held by the rules all the same.
func TestSilentHostsAreBounded(t *testing.T) {
	t.Run("BTNS-CORE-63 hosts that must be protected and do not answer", func(t *testing.T) {
		const many, most, atOnce = 12_000, 4096, 1024
		p, err := policy.New(append(policy.Untouchable(), policy.Rest(policy.Unknown{Fallback: policy.Require})...), []policy.PADEntry{policy.Anyone()})
		if err != nil {
			t.Fatal(err)
		}
		l := newLone(t, func(c *host.Config) { c.Policy = p })
		for i := range many {
			l.acquire(far(i))
			if i%100 == 99 && i < 2*atOnce {
				if n := l.host.Status(l.now).Probing; n > atOnce {
					t.Fatalf("%d attempts at once", n)
				}
			}
			if i%(atOnce/2) == 0 {
				l.run(2 * time.Minute)
			}
		}
		l.run(5 * time.Minute)
		held := make(map[netip.Prefix]flow.State)
		for _, c := range l.all {
			if s, ok := c.Change.(dataplane.SetPrefix); ok {
				if held[s.Prefix] = s.State; s.State == flow.Clear {
					delete(held, s.Prefix)
				}
			}
		}
		s := l.host.Status(l.now)
		if n := len(l.host.Peers(l.now)); n != most || s.Outage != most || len(held) != most || s.Probing != 0 {
			t.Errorf("%d peers are remembered, %d in outage, %d being tried; %d prefixes are held", n, s.Outage, s.Probing, len(held))
		}
		tried := len(l.sent.by)
		l.acquire(far(0)) // forgotten, and like new
		l.run(time.Second)
		if len(l.sent.by) != tried || l.sent.by[far(0)] < 2 {
			t.Errorf("an address that was forgotten got %d datagrams", l.sent.by[far(0)])
		}
	})
}
