package sim

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/host"
	"github.com/btns-ipsec/btns/policy"
	"github.com/btns-ipsec/btns/protect"
	"github.com/btns-ipsec/btns/selector"
)

// Each flow that an entry populates an SA from has one of its own, with the selectors of its packets as far as the entry
// says, and travels under no other (RFC 4301 §4.4.1.1). Answers go under the same.
func TestPopulateFromPacket(t *testing.T) {
	for name, tc := range map[string]struct {
		pfp  policy.PFP
		want []string // remote selectors of the SAs after packets from ports 40000 and 40001 to 5001 and 5002
	}{
		"everything":             {policy.PFPAll, []string{"tcp/5001", "tcp/5001", "tcp/5002", "tcp/5002"}},
		"remote ports":           {policy.PFPRemotePort, []string{"tcp/5001", "tcp/5002"}},
		"the remote address":     {policy.PFPRemoteAddr, []string{"tcp"}},
		"the protocol":           {policy.PFPProto, []string{"tcp"}},
		"nothing: one SA for it": {0, []string{"tcp"}},
	} {
		t.Run(name, func(t *testing.T) {
			tcp := selector.Any()
			for i := range tcp {
				tcp[i].Proto = selector.TCP
			}
			rules := spd(t, policy.Entry{
				Name: "flows", Action: policy.Protect, Local: selector.Any(), Remote: tcp, BtnsOK: true, PFP: tc.pfp, Mode: protect.Transport,
				Offer: []protect.Suite{{Encr: protect.AESGCM16, KeyBits: 256, ESN: true}}, Lifetime: policy.DefaultLifetime(),
			})
			w := New(t, 6)
			a, b := w.Host("a", rules), w.Host("b")
			var sent int
			round := func() {
				for _, lport := range []uint16{40000, 40001} {
					for _, rport := range []uint16{5001, 5002} {
						a.transmit(tcpPacket(a.Addr, b.Addr, lport, rport))
						sent++
						w.Run(1100 * time.Millisecond)
					}
				}
			}
			for range 3 {
				round()
			}
			v, _ := a.view(b)
			var got []string
			for _, c := range v.Children {
				got = append(got, c.Remote[len(b.Addr.String()+"/32 "):])
			}
			slices.Sort(got)
			if !slices.Equal(got, tc.want) {
				w.Fail("SAs to %q, want %q", got, tc.want)
			}
			before, answered := b.tally(a.Addr).Protected, a.tally(b.Addr).Protected
			round()
			b.transmit(tcpPacket(b.Addr, a.Addr, 5001, 40000))
			b.transmit(tcpPacket(b.Addr, a.Addr, 5002, 40001))
			w.Run(time.Second)
			if in, out := b.tally(a.Addr).Protected-before, a.tally(b.Addr).Protected-answered; in != 4 || out != 2 {
				w.Fail("%d of 4 packets and %d of 2 answers came protected", in, out)
			}
			if again, _ := a.view(b); len(again.Children) != len(tc.want) || b.tally(a.Addr).Clear != 0 {
				w.Fail("%d SAs; %d packets came in clear", len(again.Children), b.tally(a.Addr).Clear)
			}
			for _, c := range a.readCounters() {
				if c.PacketsOut == 0 {
					w.Fail("an SA carries nothing: %+v", a.readCounters())
				}
			}
		})
	}
}

// The same with a configured peer, through a tunnel between networks: hosts have SAs of their own.
func TestPopulateFromPacketInTunnel(t *testing.T) {
	for name, start := range map[string]host.Start{"the first packet begins": host.StartOnDemand, "before any packet": host.StartUp} {
		t.Run(name, func(t *testing.T) { populateInTunnel(t, start) })
	}
}

func populateInTunnel(t *testing.T, start host.Start) {
	w := New(t, 7)
	gate := func(name, at, other, own, far string, pfp policy.PFP) *Node {
		peer := gatewayed(t, "them", name+".example", other, own, far)
		if pfp != 0 {
			if peer.Start = start; start == host.StartUp {
				peer.Local = netip.MustParseAddr(at)
			}
		}
		pad := named(t, "them", map[string]string{"west": "east", "east": "west"}[name]+".example", map[string]string{"west": "east", "east": "west"}[name], far)
		p, err := policy.New([]policy.Entry{{
			Name: "between", Action: policy.Protect, Local: traffic(t, own), Remote: traffic(t, far), Peer: "them", PFP: pfp, Mode: protect.Tunnel,
			Offer: policy.DefaultOffer(true), Lifetime: policy.DefaultLifetime(),
		}}, []policy.PADEntry{pad})
		if err != nil {
			t.Fatal(err)
		}
		n := w.Host(name, func(c *host.Config) { c.Signer, c.Policy, c.Peers = signerOf(t, name), p, []host.Peer{peer} })
		var hosts []netip.Addr
		for i := range 3 {
			prefix := netip.MustParsePrefix(own)
			a := prefix.Addr()
			for range i + 1 {
				a = a.Next()
			}
			hosts = append(hosts, a)
		}
		n.Place(netip.MustParseAddr(at), hosts...)
		return n
	}
	west := gate("west", "192.0.2.1", "198.51.100.1", "10.1.0.0/16", "10.2.0.0/16", policy.PFPLocalAddr|policy.PFPRemoteAddr)
	east := gate("east", "198.51.100.1", "192.0.2.1", "10.2.0.0/16", "10.1.0.0/16", 0)
	addr := netip.MustParseAddr
	w.Run(5 * time.Second)
	if v, _ := west.view(east); len(v.Children) != 0 || (start == host.StartUp) != (v.Key == east.cfg.Signer.Public.Fingerprint()) {
		w.Fail("before any packet: %+v", v)
	}
	for range 4 {
		for i := range 2 {
			west.transmit(packet(addr(fmt.Sprintf("10.1.0.%d", i+1)), addr(fmt.Sprintf("10.2.0.%d", i+1))))
			w.Run(2 * time.Second)
		}
	}
	v, _ := west.view(east)
	var got []string
	for _, c := range v.Children {
		got = append(got, c.Local+" to "+c.Remote)
	}
	slices.Sort(got)
	if want := []string{"10.1.0.1/32 to 10.2.0.1/32", "10.1.0.2/32 to 10.2.0.2/32"}; !slices.Equal(got, want) {
		w.Fail("SAs %q", got)
	}
	for i := range 2 {
		if n := east.tally(addr(fmt.Sprintf("10.1.0.%d", i+1))).Protected; n < 3 {
			w.Fail("%d packets of host %d came", n, i+1)
		}
	}
}
