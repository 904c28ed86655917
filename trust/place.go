package trust

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Place is where a key is looked for (BTNS-TRUST-12): an address in a network, or a name. The zero Place is none: a
// record there says what is known of the key wherever it comes from.
type Place struct {
	Addr    netip.Addr
	Network string // tells apart networks that use the same address; see At
	Name    string // as ParseName returns it; excludes the other two
}

var scoped = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("fc00::/7"), netip.MustParsePrefix("fe80::/10"),
}

// Scoped reports whether an address means different hosts in different networks: private, shared and link-local ones.
func Scoped(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	return slices.ContainsFunc(scoped, func(p netip.Prefix) bool { return p.Contains(a) })
}

// At is the place of an address, seen from a network. The zone of a link-local address is part of the network: each
// interface has its own fe80::1.
func At(a netip.Addr, network string) Place {
	if !a.IsValid() || !Scoped(a) {
		network = ""
	}
	if zone := a.Zone(); zone != "" && a.IsLinkLocalUnicast() {
		network = strings.TrimSpace("%" + zone + " " + network)
	}
	return Place{Addr: a.Unmap().WithZone(""), Network: network}
}

// IsZero reports whether p is no place.
func (p Place) IsZero() bool { return p == Place{} }

// String is the selector as people write it; "*" for no place.
func (p Place) String() string {
	switch {
	case p.Name != "":
		return p.Name
	case p.Addr.IsValid():
		return p.Addr.String()
	}
	return "*"
}

func (p Place) compare(o Place) int {
	if c := p.Addr.Compare(o.Addr); c != 0 {
		return c
	}
	if c := strings.Compare(p.Network, o.Network); c != 0 {
		return c
	}
	return strings.Compare(p.Name, o.Name)
}

const (
	maxName  = 253 // octets (RFC 1035 §2.3.4)
	maxLabel = 63
)

// ParseName brings a name to the form in which it is recorded: lower-case A-labels, no final dot, and a port if one
// belongs to it ("host.example:22"). Names that are not ASCII have to be written as A-labels (RFC 5890 §2.3.2.1).
func ParseName(s string) (string, error) {
	host, port, hasPort := strings.Cut(s, ":")
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if host == "" || len(host) > maxName {
		return "", fmt.Errorf("trust: %q is not a name", s)
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return "", fmt.Errorf("trust: %q is an address, not a name", s)
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || len(label) > maxLabel || strings.ContainsFunc(label, notInLabel) {
			return "", fmt.Errorf("trust: %q is not a name of A-labels", s)
		}
	}
	if !hasPort {
		return host, nil
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || strconv.FormatUint(n, 10) != port {
		return "", fmt.Errorf("trust: %q does not end in a port", s)
	}
	return host + ":" + port, nil
}

func notInLabel(r rune) bool {
	return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_'
}
