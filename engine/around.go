package engine

import (
	"encoding/binary"
	"encoding/hex"
	"io/fs"
	"math/bits"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/btns-ipsec/btns/host"
)

// around reads what network this host is in. Essential are the default gateways, the resolvers, and the DHCP servers that
// a DHCP client of this host has noted: systemd-networkd, NetworkManager or dhclient.
func around() host.Surroundings {
	return read(os.DirFS("/"), attached())
}

// read is around, from a tree of files.
func read(root fs.FS, attached []netip.Prefix) host.Surroundings {
	v4, prefixes := routes4(text(root, "proc/net/route"))
	s := host.Surroundings{Network: network(v4, prefixes), Attached: attached}
	s.Essential = slices.Concat(v4, routes6(text(root, "proc/net/ipv6_route")))
	// resolved shows programs its own address; the second file has those it asks.
	for _, name := range []string{"etc/resolv.conf", "run/systemd/resolve/resolv.conf"} {
		s.Essential = append(s.Essential, words(text(root, name), "nameserver")...)
	}
	for _, pattern := range []string{"run/systemd/netif/leases/*", "var/lib/NetworkManager/*.lease"} {
		s.Essential = append(s.Essential, leases(root, pattern, "SERVER_ADDRESS=")...)
	}
	s.Essential = append(s.Essential, leases(root, "var/lib/dhcp/*.leases", "option dhcp-server-identifier")...)
	slices.SortFunc(s.Essential, netip.Addr.Compare)
	s.Essential = slices.Compact(s.Essential)
	return s
}

// attached are the prefixes of this host's own addresses that can have neighbours.
func attached() (out []netip.Prefix) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	for _, a := range addrs {
		p, err := netip.ParsePrefix(a.String())
		if err == nil && !p.Addr().IsLoopback() && !p.Addr().IsLinkLocalUnicast() && !p.IsSingleIP() {
			out = append(out, p.Masked())
		}
	}
	slices.SortFunc(out, func(x, y netip.Prefix) int { return strings.Compare(x.String(), y.String()) })
	return slices.Compact(out)
}

// text is a file as far as it can be read; what cannot is unknown.
func text(root fs.FS, name string) string {
	b, err := fs.ReadFile(root, name)
	if err != nil {
		return ""
	}
	return string(b)
}

// network names the network: the prefix in which the default gateway is, and the gateway. It tells apart networks that
// use the same private addresses. Empty: there is no default gateway, and so no other network that could be met.
func network(gateways []netip.Addr, prefixes []netip.Prefix) string {
	if len(gateways) == 0 {
		return ""
	}
	for _, p := range prefixes {
		if p.Bits() > 0 && p.Contains(gateways[0]) {
			return p.String() + " via " + gateways[0].String()
		}
	}
	return "via " + gateways[0].String()
}

// routes4 reads the kernel's table of IPv4 routes: default gateways, and the prefixes that are reached without one.
func routes4(table string) (gateways []netip.Addr, prefixes []netip.Prefix) {
	for line := range strings.Lines(table) {
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
		case mask.IsUnspecified():
			gateways = append(gateways, via)
		}
	}
	return gateways, prefixes
}

// routeAddr reads an address as the kernel prints it there: hexadecimal, in the octet order of the machine.
func routeAddr(text string) (netip.Addr, bool) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != 4 {
		return netip.Addr{}, false
	}
	var a [4]byte
	binary.NativeEndian.PutUint32(a[:], binary.BigEndian.Uint32(b))
	return netip.AddrFrom4(a), true
}

// routes6 reads the default gateways from the kernel's table of IPv6 routes.
func routes6(table string) (gateways []netip.Addr) {
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) < 10 || f[1] != "00" {
			continue
		}
		if b, err := hex.DecodeString(f[4]); err == nil && len(b) == 16 {
			if a := netip.AddrFrom16([16]byte(b)); !a.IsUnspecified() {
				gateways = append(gateways, a)
			}
		}
	}
	return gateways
}

// words are the addresses that follow a word at the beginning of a line.
func words(text, word string) (out []netip.Addr) {
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), word)
		if !ok {
			continue
		}
		a, err := netip.ParseAddr(strings.TrimRight(strings.TrimSpace(rest), ";"))
		if err == nil && !a.IsLoopback() && !a.IsUnspecified() {
			out = append(out, a.Unmap().WithZone(""))
		}
	}
	return out
}

// leases are the addresses that follow a word in any of the files that match.
func leases(root fs.FS, pattern, word string) (out []netip.Addr) {
	names, err := fs.Glob(root, pattern)
	if err != nil {
		return nil
	}
	for _, name := range names {
		out = append(out, words(text(root, name), word)...)
	}
	return out
}
