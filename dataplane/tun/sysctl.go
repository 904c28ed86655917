//go:build linux

package tun

import (
	"os"
	"strings"
)

// Settings of the kernel are those of the namespace of the calling thread.

func readSetting(name string) (string, error) {
	b, err := os.ReadFile("/proc/sys/" + name)
	return strings.TrimSpace(string(b)), err
}

func writeSetting(name, value string) error { return os.WriteFile("/proc/sys/"+name, []byte(value), 0) }

// quietDevice keeps the kernel from speaking on the device by itself: no IPv6 link-local address, router solicitation
// or MLD. These settings go with the device.
func (h *host) quietDevice() {
	_ = writeSetting("net/ipv6/conf/"+h.p.name+"/addr_gen_mode", "1")
	_ = writeSetting("net/ipv6/conf/"+h.p.name+"/accept_ra", "0")
	_ = writeSetting("net/ipv4/conf/"+h.p.name+"/disable_xfrm", "1") // packets on the device raise no acquires
}
