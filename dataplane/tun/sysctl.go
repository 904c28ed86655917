//go:build linux

package tun

import (
	"fmt"
	"os"
	"strings"
)

// sysctls are settings of the kernel that were changed, with what they were.
type sysctls struct{ was []setting }

type setting struct{ path, value string }

// set changes a setting, keeping what it was. The file stays open by name: it is that of the process's namespace.
func (s *sysctls) set(name, value string) error {
	path := "/proc/sys/" + name
	old, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("tun: %w", err)
	}
	was := strings.TrimSpace(string(old))
	if was == value {
		return nil
	}
	if err := os.WriteFile(path, []byte(value), 0); err != nil {
		return fmt.Errorf("tun: %w", err)
	}
	s.was = append(s.was, setting{path, was})
	return nil
}

func (s *sysctls) restore() error {
	var failed error
	for i := len(s.was) - 1; i >= 0; i-- {
		if err := os.WriteFile(s.was[i].path, []byte(s.was[i].value), 0); err != nil && failed == nil {
			failed = fmt.Errorf("tun: restore: %w", err)
		}
	}
	s.was = nil
	return failed
}

// quietDevice keeps the kernel from speaking on the device by itself: no IPv6 link-local address, router solicitation
// or MLD. Settings of the device go with it.
func (h *host) quietDevice() {
	_ = os.WriteFile("/proc/sys/net/ipv6/conf/"+h.p.name+"/addr_gen_mode", []byte("1"), 0)
	_ = os.WriteFile("/proc/sys/net/ipv6/conf/"+h.p.name+"/accept_ra", []byte("0"), 0)
}
