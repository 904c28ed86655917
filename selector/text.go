package selector

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// ErrSyntax says that a text is not a selector.
var ErrSyntax = errors.New("selector: syntax")

var protoNames = map[uint8]string{
	0: "any", ICMP: "icmp", 2: "igmp", TCP: "tcp", UDP: "udp", 33: "dccp", 47: "gre", 50: "esp", 51: "ah",
	ICMPv6: "icmpv6", 89: "ospf", SCTP: "sctp", 136: "udplite",
}

// String is "192.0.2.0/24", "2001:db8::1/128 tcp/22", "192.0.2.1-192.0.2.9 udp/1000-1999", "::/0 icmpv6/128",
// "192.0.2.1/32 icmp/3:4", "192.0.2.1/32 tcp/opaque".
func (s Selector) String() string {
	if !s.From.IsValid() {
		return "invalid"
	}
	a := s.From.String() + "-" + s.To.String()
	if p, ok := s.Prefix(); ok {
		a = p.String()
	}
	if up := s.Upper(); up != "" {
		return a + " " + up
	}
	return a
}

// Upper is the part of String after the addresses: protocol and ports; empty for all of them.
func (s Selector) Upper() string {
	if s.Ports == AnyPort {
		if s.Proto == 0 {
			return ""
		}
		return protoName(s.Proto)
	}
	return protoName(s.Proto) + "/" + s.portText()
}

func protoName(p uint8) string {
	if n, ok := protoNames[p]; ok {
		return n
	}
	return strconv.Itoa(int(p))
}

func (s Selector) portText() string {
	if s.Ports == Opaque {
		return "opaque"
	}
	from, to := icmpText(s.Ports.From), icmpText(s.Ports.To)
	if s.Proto != ICMP && s.Proto != ICMPv6 {
		from, to = strconv.Itoa(int(s.Ports.From)), strconv.Itoa(int(s.Ports.To))
	} else if s.Ports.From&0xff == 0 && s.Ports.To == s.Ports.From|0xff {
		return strconv.Itoa(int(s.Ports.From >> 8)) // all codes of one type
	}
	if from == to {
		return from
	}
	return from + "-" + to
}

func icmpText(p uint16) string { return fmt.Sprintf("%d:%d", p>>8, p&0xff) }

// Prefix is the addresses of s as a prefix, if they are one.
func (s Selector) Prefix() (netip.Prefix, bool) {
	for bits := s.From.BitLen(); bits >= 0; bits-- {
		p := netip.PrefixFrom(s.From, bits)
		if p.Masked().Addr() != s.From {
			break
		}
		if last(p) == s.To {
			return p, true
		}
	}
	return netip.Prefix{}, false
}

// String joins the selectors with commas.
func (s Set) String() string {
	if len(s) == 0 {
		return "nothing"
	}
	out := make([]string, len(s))
	for i, sel := range s {
		out[i] = sel.String()
	}
	return strings.Join(out, ", ")
}

// Parse reads what String writes; a bare address is that host, and the addresses "any4" and "any6" are all of a family.
func Parse(text string) (Selector, error) {
	addrs, upper, _ := strings.Cut(text, " ")
	s, err := ParseAddrs(addrs)
	if err != nil {
		return Selector{}, err
	}
	if upper != "" {
		s.Proto, s.Ports, err = ParseUpper(upper)
	}
	return s, err
}

// ParseAddrs reads an address, prefix or range.
func ParseAddrs(text string) (Selector, error) {
	switch text {
	case "any4":
		return Any4(), nil
	case "any6":
		return Any6(), nil
	}
	if from, to, ok := strings.Cut(text, "-"); ok {
		a, err1 := netip.ParseAddr(from)
		b, err2 := netip.ParseAddr(to)
		s := Selector{Ports: AnyPort, From: a, To: b}
		if err1 != nil || err2 != nil || !s.Valid() {
			return Selector{}, fmt.Errorf("%w: %q is not a range of addresses", ErrSyntax, text)
		}
		return s, nil
	}
	if strings.Contains(text, "/") {
		p, err := netip.ParsePrefix(text)
		if err != nil || p.Addr().Is4In6() {
			return Selector{}, fmt.Errorf("%w: %q is not a prefix", ErrSyntax, text)
		}
		if p.Masked() != p {
			return Selector{}, fmt.Errorf("%w: %q has bits set behind the prefix length; the prefix is %v", ErrSyntax, text, p.Masked())
		}
		return Prefix(p), nil
	}
	a, err := netip.ParseAddr(text)
	if err != nil || a != plain(a) {
		return Selector{}, fmt.Errorf("%w: %q is not an address, prefix or range", ErrSyntax, text)
	}
	return Host(a), nil
}

// ParseUpper reads protocol and ports: "tcp", "tcp/22", "udp/1000-1999", "icmp/8", "icmp/3:4", "47", "any".
func ParseUpper(text string) (uint8, PortRange, error) {
	name, ports, given := strings.Cut(text, "/")
	proto, err := parseProto(name)
	if err != nil || !given {
		return proto, AnyPort, err
	}
	if ports == "opaque" {
		return proto, Opaque, nil
	}
	from, to, isRange := strings.Cut(ports, "-")
	lo, hi, err := parsePort(proto, from)
	if err == nil && isRange {
		_, hi, err = parsePort(proto, to)
	}
	if err != nil || lo > hi {
		return 0, PortRange{}, fmt.Errorf("%w: %q is not a port or a range of ports", ErrSyntax, ports)
	}
	return proto, PortRange{lo, hi}, nil
}

func parseProto(name string) (uint8, error) {
	for p, n := range protoNames {
		if n == name {
			return p, nil
		}
	}
	n, err := strconv.ParseUint(name, 10, 8)
	if err != nil {
		return 0, fmt.Errorf("%w: unknown protocol %q", ErrSyntax, name)
	}
	return uint8(n), nil
}

// parsePort reads one port; an ICMP type without a code is all of its codes.
func parsePort(proto uint8, text string) (lo, hi uint16, err error) {
	if proto != ICMP && proto != ICMPv6 {
		n, err := strconv.ParseUint(text, 10, 16)
		return uint16(n), uint16(n), err
	}
	typ, code, given := strings.Cut(text, ":")
	t, err := strconv.ParseUint(typ, 10, 8)
	if err != nil || !given {
		return uint16(t) << 8, uint16(t)<<8 | 0xff, err
	}
	c, err := strconv.ParseUint(code, 10, 8)
	return uint16(t)<<8 | uint16(c), uint16(t)<<8 | uint16(c), err
}
