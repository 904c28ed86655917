//go:build linux

package tun

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/btns-ipsec/btns/dataplane"
	"github.com/btns-ipsec/btns/dataplane/flow"
)

// Traffic of a masqueraded container is the host's: it is protected, whichever way the host wrote its rule, and the
// answers find the container. What is only forwarded is left alone.
func TestContainer(t *testing.T) {
	t.Parallel()
	for _, rule := range []string{`oifname "eth0" masquerade`, `ip saddr 172.17.0.0/16 oifname != "docker0" masquerade`} {
		a, b := twoNodes(t)
		c := newNode(t, "container")
		join(a, "docker0", c, "eth0")
		a.addr("docker0", "172.17.0.1/16")
		c.addr("eth0", "172.17.0.2/16")
		c.sh("ip route add default via 172.17.0.1")
		b.sh("ip route add 172.17.0.0/16 via " + a4)
		a.sh("sysctl -qw net.ipv4.ip_forward=1; sysctl -qw net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.eth0.rp_filter=1 net.ipv4.conf.docker0.rp_filter=1")
		a.open(Config{})
		b.open(Config{})
		protectBoth(a, b, gcm128)
		c.mustPing(b4) // not masqueraded: nobody's SA, as without btns
		if n := a.plane.Counters(nil); len(n) != 0 {
			t.Errorf("forwarded packets were protected: %+v", n)
		}
		a.sh("nft 'table ip nat { chain post { type nat hook postrouting priority srcnat; " + rule + "; }; }'")
		c.mustPing(b4)
		transfer(t, c, b, b4, 8<<20)
		echo(t, c, b, b4, 1, 1000, 1472)
		var out uint64
		for _, u := range a.plane.Counters(nil) {
			out += u.PacketsOut
		}
		if out == 0 || b.drops(flow.BadSelector) != 0 {
			t.Errorf("%s: %d packets protected; %v", rule, out, b.seen())
		}
		if strings.Contains(b.sh("nft list table inet btns"), "drop") && !strings.Contains(b.sh("nft list table inet btns"), "counter packets 0") {
			t.Errorf("%s: clear text reached the other host", rule)
		}
	}
}

// A narrow link on the path: nothing is black-holed, senders are told, and the plane's own packets stay whole as soon as
// it knows (RFC 4301 §8.2).
func TestNarrowPath(t *testing.T) {
	t.Parallel()
	needRoot(t)
	a, r, b := newNode(t, "a"), newNode(t, "router"), newNode(t, "b")
	join(a, "eth0", r, "left")
	join(b, "eth0", r, "right")
	a.addr("eth0", "192.0.2.1/24", "2001:db8::1/64")
	r.addr("left", "192.0.2.254/24", "2001:db8::fe/64")
	r.addr("right", "198.51.100.254/24", "2001:db8:1::fe/64")
	b.addr("eth0", "198.51.100.1/24", "2001:db8:1::1/64")
	a.sh("ip route add default via 192.0.2.254; ip -6 route add default via 2001:db8::fe")
	b.sh("ip route add default via 198.51.100.254; ip -6 route add default via 2001:db8:1::fe")
	r.sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1; ip link set right mtu 1300")
	b.sh("ip link set eth0 mtu 1300")
	a.open(Config{})
	b.open(Config{})
	for i, ends := range [][2]string{{"192.0.2.1", "198.51.100.1"}, {"2001:db8::1", "2001:db8:1::1"}} {
		a.protect(pairOf(flow.PairID(i+1), gcm128, ends[0], ends[1]))
		b.protect(pairOf(flow.PairID(i+1), gcm128, ends[1], ends[0]))
	}
	for _, addr := range []string{"198.51.100.1", "2001:db8:1::1"} {
		a.mustPing(addr)
		transfer(t, a, b, addr, 4<<20)
		transfer(t, a, b, addr, 4<<20)
		echo(t, a, b, addr, 1200, 1400, 9000)
	}
	transfer(t, b, a, "192.0.2.1", 4<<20)
	a.until("narrower path", func() bool {
		for _, id := range []flow.PairID{1, 2} {
			if m := saOf(a.plane.table.Load().Pair(id)).mtu.Load(); m > 1300 {
				return false
			}
		}
		return true
	})
	if out, err := a.try("ping -c 3 -i 0.1 -W 1 -M do -s 1300 198.51.100.1"); err == nil || !strings.Contains(out, "too long") {
		t.Errorf("DF and too long: %s", out)
	}
}

// One end behind a NAT: addresses are substituted, checksums repaired, and a NAT that forgets is followed (RFC 7296
// §2.23, RFC 3948 §3.1.2).
func TestNAT(t *testing.T) {
	t.Parallel()
	needRoot(t)
	a, r, b := newNode(t, "a"), newNode(t, "nat"), newNode(t, "b")
	join(a, "eth0", r, "left")
	join(b, "eth0", r, "right")
	a.addr("eth0", "10.0.0.2/24")
	r.addr("left", "10.0.0.1/24")
	r.addr("right", "198.51.100.254/24")
	b.addr("eth0", "198.51.100.1/24")
	a.sh("ip route add default via 10.0.0.1")
	r.sh("sysctl -qw net.ipv4.ip_forward=1; nft 'table ip nat { chain post { type nat hook postrouting priority srcnat; oifname right udp sport 4500 snat to 198.51.100.254:40001; oifname right masquerade; }; }'")
	a.open(Config{})
	b.open(Config{})
	inside, outside, server := netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("198.51.100.254"), netip.MustParseAddr("198.51.100.1")
	a.protect(pairOf(1, gcm128, "10.0.0.2", "198.51.100.1", func(s *flow.Spec) { s.SawLocal, s.SawRemote = outside, server }))
	natted := func(s *flow.Spec) {
		other := pairOf(1, gcm128, "198.51.100.1", "10.0.0.2")
		s.SPIIn, s.SPIOut, s.KeysIn, s.KeysOut = other.SPIIn, other.SPIOut, other.KeysIn, other.KeysOut
		s.OuterRemote = netip.AddrPortFrom(outside, 40001)
		s.SawLocal, s.SawRemote, s.PeerMoves = server, inside, true
	}
	b.protect(pairOf(1, gcm128, "198.51.100.1", "198.51.100.254", natted))
	a.mustPing("198.51.100.1")
	transfer(t, a, b, "198.51.100.1", 8<<20)
	echo(t, a, b, "198.51.100.1", 1, 1000, 5000)
	b.mustPing("198.51.100.254")
	r.sh("nft delete table ip nat; nft 'table ip nat { chain post { type nat hook postrouting priority srcnat; oifname right udp sport 4500 snat to 198.51.100.254:40002; }; }'")
	r.in(func() {
		if err := netlink.ConntrackTableFlush(netlink.ConntrackTable); err != nil {
			t.Error(err)
		}
	})
	moved := netip.AddrPortFrom(outside, 40002)
	a.until("move", func() bool {
		_, _ = a.try("ping -c 1 -W 0.1 198.51.100.1")
		for _, e := range b.seen() {
			if e == (dataplane.Moved{ID: 1, Remote: moved}) {
				return true
			}
		}
		return false
	})
	b.apply(dataplane.MoveSA{ID: 1, Remote: moved})
	a.mustPing("198.51.100.1")
}

// Two secondary addresses and a changed one are told of.
func TestAddressChanged(t *testing.T) {
	t.Parallel()
	a, b := twoNodes(t)
	a.open(Config{})
	b.open(Config{})
	protectBoth(a, b, gcm128)
	a.addr("eth0", "203.0.113.1/24")
	a.await("AddressChanged", func(e dataplane.Event) bool { return e == dataplane.AddressChanged{} })
	a.mustPing(b4)
	a.sh("ip link set eth0 down; ip link set eth0 up; ip -6 addr replace " + a6 + "/64 dev eth0")
	a.mustPing(b4)
}
