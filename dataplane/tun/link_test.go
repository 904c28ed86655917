//go:build linux

package tun

import (
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// What is asked of an interface is what netlink says of it.
func TestLinkFacts(t *testing.T) {
	needRoot(t)
	a, b := newNode(t, "a"), newNode(t, "b")
	join(a, "eth0", b, "eth0")
	a.sh("ip link set eth0 mtu 1400")
	a.in(func() {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Error(err)
			return
		}
		defer unix.Close(fd)
		links, err := netlink.LinkList()
		if err != nil || len(links) < 2 {
			t.Errorf("%d links, %v", len(links), err)
		}
		for _, l := range links {
			w := l.Attrs()
			f, err := factsOf(fd, w.Index)
			if err != nil || f.name != w.Name || f.mtu != w.MTU || f.loopback != (w.Name == "lo") || f.ethernet != (w.EncapType == "ether") {
				t.Errorf("%s: %+v, %v", w.Name, f, err)
			}
			if f.ethernet && string(f.mac[:]) != string(w.HardwareAddr) {
				t.Errorf("%s: %x, want %v", w.Name, f.mac, w.HardwareAddr)
			}
		}
		if _, err := factsOf(fd, 1<<20); err == nil {
			t.Error("an interface that is not there")
		}
	})
}
