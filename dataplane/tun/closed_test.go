//go:build linux

package tun

import (
	"net/netip"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/btns-ipsec/btns/dataplane"
)

// Where nothing listens on the IKE port, the plane tells what ICMP said, and goes on sending and receiving.
func TestPortClosed(t *testing.T) {
	t.Parallel()
	a, b := twoNodes(t)
	a.open(Config{})
	send := func(local, remote string) {
		t.Helper()
		if err := a.plane.Send(netip.AddrPortFrom(netip.MustParseAddr(local), 500), netip.AddrPortFrom(netip.MustParseAddr(remote), 500), make([]byte, 28)); err != nil {
			t.Error(err)
		}
	}
	for _, to := range [][2]string{{a4, b4}, {a6, b6}} {
		send(to[0], to[1])
		a.await("PortClosed", func(e dataplane.Event) bool {
			c, ok := e.(dataplane.PortClosed)
			return ok && c.Remote == netip.MustParseAddr(to[1])
		})
		for range 50 {
			send(to[0], to[1]) // whatever errors are under way, none of them stops a datagram
		}
	}
	b.open(Config{})
	for _, to := range [][2]string{{a4, b4}, {a6, b6}} {
		send(to[0], to[1])
		b.await("Datagram", func(e dataplane.Event) bool {
			d, ok := e.(dataplane.Datagram)
			return ok && d.Remote.Addr() == netip.MustParseAddr(to[0])
		})
	}
	a.fine()
}

// Other errors than those about a port, and messages that are cut short, say nothing.
func TestOnlyPortsAreClosed(t *testing.T) {
	for _, tc := range []struct {
		name              string
		level, typ        int
		origin, what, why byte
		cut               bool
		want              bool
	}{
		{"port unreachable", unix.IPPROTO_IP, unix.IP_RECVERR, unix.SO_EE_ORIGIN_ICMP, 3, 3, false, true},
		{"prohibited by a filter", unix.IPPROTO_IP, unix.IP_RECVERR, unix.SO_EE_ORIGIN_ICMP, 3, 13, false, true},
		{"host unreachable", unix.IPPROTO_IP, unix.IP_RECVERR, unix.SO_EE_ORIGIN_ICMP, 3, 1, false, false},
		{"too big", unix.IPPROTO_IP, unix.IP_RECVERR, unix.SO_EE_ORIGIN_ICMP, 3, 4, false, false},
		{"time exceeded", unix.IPPROTO_IP, unix.IP_RECVERR, unix.SO_EE_ORIGIN_ICMP, 11, 3, false, false},
		{"of this host", unix.IPPROTO_IP, unix.IP_RECVERR, unix.SO_EE_ORIGIN_LOCAL, 3, 3, false, false},
		{"IPv6 port unreachable", unix.IPPROTO_IPV6, unix.IPV6_RECVERR, unix.SO_EE_ORIGIN_ICMP6, 1, 4, false, true},
		{"IPv6 prohibited", unix.IPPROTO_IPV6, unix.IPV6_RECVERR, unix.SO_EE_ORIGIN_ICMP6, 1, 1, false, true},
		{"IPv6 no route", unix.IPPROTO_IPV6, unix.IPV6_RECVERR, unix.SO_EE_ORIGIN_ICMP6, 1, 0, false, false},
		{"another control message", unix.IPPROTO_IP, unix.IP_TTL, unix.SO_EE_ORIGIN_ICMP, 3, 3, false, false},
		{"cut short", unix.IPPROTO_IP, unix.IP_RECVERR, unix.SO_EE_ORIGIN_ICMP, 3, 3, true, false},
	} {
		data := make([]byte, 16)
		data[4], data[5], data[6] = tc.origin, tc.what, tc.why
		if tc.cut {
			data = data[:8]
		}
		oob := make([]byte, unix.CmsgSpace(len(data)))
		h := (*unix.Cmsghdr)(unsafe.Pointer(&oob[0]))
		h.Level, h.Type = int32(tc.level), int32(tc.typ)
		h.SetLen(unix.CmsgLen(len(data)))
		copy(oob[unix.CmsgLen(0):], data)
		if got := closesPort(oob); got != tc.want {
			t.Errorf("%s: %v", tc.name, got)
		}
	}
	if closesPort([]byte{1, 2, 3}) {
		t.Error("rubbish")
	}
}
