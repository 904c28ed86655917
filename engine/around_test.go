package engine

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/btns-ipsec/btns/dataplane"
	"github.com/btns-ipsec/btns/host"
)

// route4 is a line of /proc/net/route, addresses in the order of this machine.
func route4(dst, via, mask string) string {
	raw := func(a string) string {
		b := netip.MustParseAddr(a).As4()
		if isLittleEndian {
			slices.Reverse(b[:])
		}
		return fmt.Sprintf("%X", b)
	}
	return fmt.Sprintf("eth0\t%s\t%s\t0003\t0\t0\t0\t%s\t0\t0\t0\n", raw(dst), raw(via), raw(mask))
}

var isLittleEndian = func() bool {
	a, _ := routeAddr("0100007F")
	return a.IsLoopback()
}()

const head4 = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"

// The files say which network this is, and what it cannot do without; whatever cannot be read is unknown, and no more.
func TestAround(t *testing.T) {
	lan, gateway := route4("192.168.2.0", "0.0.0.0", "255.255.255.0"), route4("0.0.0.0", "192.168.2.1", "0.0.0.0")
	const none6 = "00000000000000000000000000000000"
	const route6 = "20010db8000000000000000000000000 40 " + none6 + " 00 " + none6 + " 00000100 00000001 00000000 00000001 eth0\n" +
		none6 + " 00 " + none6 + " 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003 eth0\n" +
		none6 + " 00 " + none6 + " 00 " + none6 + " ffffffff 00000001 00000000 00200200 lo\n"
	for _, tc := range []struct {
		name      string
		files     map[string]string
		network   string
		essential string
	}{
		{name: "nothing"},
		{name: "no gateway", files: map[string]string{"proc/net/route": head4 + lan}},
		{
			name: "a gateway in a network", files: map[string]string{"proc/net/route": head4 + gateway + lan},
			network: "192.168.2.0/24 via 192.168.2.1", essential: "192.168.2.1",
		},
		{
			name: "two gateways", files: map[string]string{"proc/net/route": head4 + gateway + route4("0.0.0.0", "192.168.2.2", "0.0.0.0") + lan},
			network: "192.168.2.0/24 via 192.168.2.1", essential: "192.168.2.1 192.168.2.2",
		},
		{
			name: "a gateway in no network", files: map[string]string{"proc/net/route": head4 + gateway + "junk\n"},
			network: "via 192.168.2.1", essential: "192.168.2.1",
		},
		{name: "IPv6", files: map[string]string{"proc/net/ipv6_route": route6 + "junk\n"}, essential: "fe80::1"},
		{
			name:      "resolvers",
			files:     map[string]string{"etc/resolv.conf": "# nameserver 192.0.2.9\nsearch example\nnameserver 192.0.2.53\n nameserver\t2001:db8::53\nnameserver fe80::53%eth0\nnameserver nonsense\nnameserver 192.0.2.53\n"},
			essential: "192.0.2.53 2001:db8::53 fe80::53",
		},
		{
			name:      "resolvers behind resolved",
			files:     map[string]string{"etc/resolv.conf": "nameserver 127.0.0.53\n", "run/systemd/resolve/resolv.conf": "nameserver 192.0.2.54\n"},
			essential: "192.0.2.54",
		},
		{
			name: "DHCP servers",
			files: map[string]string{
				"run/systemd/netif/leases/2":            "ADDRESS=192.0.2.8\nSERVER_ADDRESS=192.0.2.67\n",
				"var/lib/NetworkManager/i-eth1.lease":   "SERVER_ADDRESS=192.0.2.68\n",
				"var/lib/dhcp/dhclient.eth2.leases":     "lease {\n  fixed-address 192.0.2.8;\n  option dhcp-server-identifier 192.0.2.69;\n}\n",
				"var/lib/NetworkManager/NetworkManager": "SERVER_ADDRESS=192.0.2.99\n",
			},
			essential: "192.0.2.67 192.0.2.68 192.0.2.69",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			root := fstest.MapFS{}
			for name, text := range tc.files {
				root[name] = &fstest.MapFile{Data: []byte(text)}
			}
			s := read(root, nil)
			if got := strings.Trim(fmt.Sprint(s.Essential), "[]"); s.Network != tc.network || got != tc.essential {
				t.Errorf("network %q, essential %s; want %q and %s", s.Network, got, tc.network, tc.essential)
			}
		})
	}
}

// Attached networks are read from the system: the loopback's is none.
func TestAttached(t *testing.T) {
	for _, p := range attached() {
		if p.Addr().IsLoopback() || p.Addr().IsLinkLocalUnicast() || p != p.Masked() || p.IsSingleIP() {
			t.Errorf("%v is no attached network", p)
		}
	}
}

// The host hears of another network before it hears that its addresses have changed, and again of what a DHCP client
// notes a little later; never of what it knows.
func TestFollowsTheNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var now atomic.Pointer[host.Surroundings]
		now.Store(&host.Surroundings{Network: "home"})
		r := startOn(t, func(c *Config) { c.Around = func() host.Surroundings { return *now.Load() } }, nil)
		time.Sleep(time.Minute) // of the bubble
		now.Store(&host.Surroundings{Network: "café"})
		r.plane.sink(dataplane.AddressChanged{})
		time.Sleep(afterwards - time.Millisecond)
		now.Store(&host.Surroundings{Network: "café", Essential: []netip.Addr{remote}})
		time.Sleep(time.Hour)
		now.Store(&host.Surroundings{Network: "not looked at: nothing has changed"})
		time.Sleep(time.Hour)
		synctest.Wait()
		want := []host.Event{
			host.Surroundings{Network: "home"},
			host.Surroundings{Network: "café"},
			host.FromPlane{Event: dataplane.AddressChanged{}},
			host.Surroundings{Network: "café", Essential: []netip.Addr{remote}},
		}
		if got := r.brain.seen(); !reflect.DeepEqual(got, want) {
			t.Errorf("the host heard\n%+v, want\n%+v", got, want)
		}
		r.close(t)
	})
}
