package engine

import (
	"encoding/binary"
	"encoding/hex"
	"math/bits"
	"net/netip"
	"os"
	"strings"
)

// network names the network that this host is in, from the kernel's table of IPv4 routes: the prefix in which the
// default gateway is, and the gateway. It tells apart networks that use the same private addresses. Empty: there is no
// default gateway, and so no other network that could be met.
func network(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	var gateway netip.Addr
	var prefixes []netip.Prefix
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) < 8 {
			continue
		}
		dst, ok1 := routeAddr(f[1])
		via, ok2 := routeAddr(f[2])
		mask, ok3 := routeAddr(f[7])
		if !ok1 || !ok2 || !ok3 {
			continue // the heading
		}
		switch m := mask.As4(); {
		case via.IsUnspecified():
			prefixes = append(prefixes, netip.PrefixFrom(dst, bits.OnesCount32(binary.BigEndian.Uint32(m[:]))))
		case mask.IsUnspecified() && !gateway.IsValid():
			gateway = via
		}
	}
	if !gateway.IsValid() {
		return ""
	}
	for _, p := range prefixes {
		if p.Bits() > 0 && p.Contains(gateway) {
			return p.String() + " via " + gateway.String()
		}
	}
	return "via " + gateway.String()
}

// routeAddr reads an address as the kernel prints it there: hexadecimal, in the octet order of the machine. All that we
// support in this file is little-endian; on others the name is another, but as good.
func routeAddr(text string) (netip.Addr, bool) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != 4 {
		return netip.Addr{}, false
	}
	return netip.AddrFrom4([4]byte{b[3], b[2], b[1], b[0]}), true
}
