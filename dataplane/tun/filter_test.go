//go:build linux

package tun

import (
	"net/netip"
	"testing"
)

func TestBeyond(t *testing.T) {
	for prefix, want := range map[string]string{
		"192.0.2.0/24": "192.0.3.0", "10.0.0.0/8": "11.0.0.0", "255.255.255.0/24": "0.0.0.0", "0.0.0.0/0": "0.0.0.0", "192.0.2.254/31": "192.0.3.0",
		"10.255.0.0/16": "11.0.0.0", "2001:db8::/33": "2001:db8:8000::", "2001:db8:ffff:8000::/49": "2001:db9::",
	} {
		got, _ := netip.AddrFromSlice(beyond(netip.MustParsePrefix(prefix)))
		if got != netip.MustParseAddr(want) {
			t.Errorf("behind %s: %v, want %s", prefix, got, want)
		}
	}
}
