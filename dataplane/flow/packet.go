package flow

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"github.com/btns-ipsec/btns/selector"
)

// ErrPacket says that octets are not an IP packet that selectors can be taken from.
var ErrPacket = errors.New("flow: malformed IP packet")

// PacketInfo is where things are in an IP packet.
type PacketInfo struct {
	V6        bool
	Fragment  bool // any fragment, the first one too
	HeaderLen int  // what stays in front of ESP in transport mode (RFC 4303 §3.1.1)
	NextAt    int  // offset of the octet that names what follows at HeaderLen
	UpperAt   int  // offset of the next-layer protocol, behind all extension headers
	Upper     uint8
	TotalLen  int // by the IP header; the packet may have octets behind
	TOS       uint8
	TTL       uint8
	DF        bool // IPv4
}

// Protocols that a header chain is walked through, and others with a meaning here.
const (
	protoHopByHop  = 0
	protoIPv4      = 4
	protoIPv6      = 41
	protoRouting   = 43
	protoFragment  = 44
	protoESP       = 50
	protoDstOpts   = 60
	protoDCCP      = 33
	protoUDPLite   = 136
	maxExtensions  = 8 // RFC 8200 §4.1 has use for six
	ipv4Len        = 20
	ipv6Len        = 40
	defaultTTL     = 64
	fragmentHdrLen = 8
)

// ParseFlow reads from an IP packet what selectors look at, and where the parts of the packet are. It is strict: what
// leads past the packet, or to another destination than its header names, is refused. Octets behind the length in the IP
// header are ignored. Outbound says which end is the local one.
func ParseFlow(pkt []byte, outbound bool) (selector.Flow, PacketInfo, error) {
	return parse(pkt, outbound, false)
}

// parse is ParseFlow; a packet quoted in an ICMP error may be cut behind its ports.
func parse(pkt []byte, outbound, quoted bool) (f selector.Flow, i PacketInfo, err error) {
	if len(pkt) < ipv4Len {
		return f, i, ErrPacket
	}
	var src, dst netip.Addr
	var offset int // of a fragment
	switch pkt[0] >> 4 {
	case 4:
		src, dst, offset, err = i.parse4(pkt, quoted)
	case 6:
		src, dst, offset, err = i.parse6(pkt, quoted)
	default:
		err = ErrPacket
	}
	if err != nil || src.Is4In6() || dst.Is4In6() { // a mapped address would pass for one of the other family
		return f, i, ErrPacket
	}
	f = selector.Flow{Proto: i.Upper, Local: src, Remote: dst}
	if offset != 0 {
		f.NoPorts = true
		if f.Proto == selector.TCP && offset < 16 { // overlays the flags (RFC 3128)
			return f, i, ErrPacket
		}
	} else if f.LocalPort, f.RemotePort, err = ports(pkt[i.UpperAt:min(i.TotalLen, len(pkt))], i, quoted); err != nil {
		return f, i, err
	}
	if !outbound {
		f.Local, f.Remote, f.LocalPort, f.RemotePort = f.Remote, f.Local, f.RemotePort, f.LocalPort
	}
	return f, i, nil
}

func (i *PacketInfo) parse4(pkt []byte, quoted bool) (src, dst netip.Addr, offset int, err error) {
	i.HeaderLen = int(pkt[0]&15) * 4
	i.TotalLen = int(binary.BigEndian.Uint16(pkt[2:]))
	if i.HeaderLen < ipv4Len || i.TotalLen < i.HeaderLen || len(pkt) < i.HeaderLen || len(pkt) < i.TotalLen && !quoted {
		return src, dst, 0, ErrPacket
	}
	if !quoted && !plainOptions(pkt[ipv4Len:i.HeaderLen]) {
		return src, dst, 0, ErrPacket
	}
	frag := binary.BigEndian.Uint16(pkt[6:])
	offset = int(frag&0x1fff) * 8
	if offset+i.TotalLen-i.HeaderLen > 0xffff {
		return src, dst, 0, ErrPacket
	}
	i.NextAt, i.UpperAt, i.Upper = 9, i.HeaderLen, pkt[9]
	i.TOS, i.TTL, i.DF = pkt[1], pkt[8], frag&0x4000 != 0
	i.Fragment = frag&0x3fff != 0
	return netip.AddrFrom4([4]byte(pkt[12:16])), netip.AddrFrom4([4]byte(pkt[16:20])), offset, nil
}

// plainOptions reports whether IPv4 options are well-formed and name no other destination (RFC 791: source routes).
func plainOptions(o []byte) bool {
	for len(o) > 0 {
		switch o[0] {
		case 0: // end
			return true
		case 1: // no operation
			o = o[1:]
			continue
		}
		if len(o) < 2 || o[1] < 2 || int(o[1]) > len(o) {
			return false
		}
		if typ := o[0]; typ == 131 || typ == 137 {
			if o[1] < 3 || o[2] <= o[1] { // pointer not behind the route: not there yet
				return false
			}
		}
		o = o[o[1]:]
	}
	return true
}

func (i *PacketInfo) parse6(pkt []byte, quoted bool) (src, dst netip.Addr, offset int, err error) {
	if len(pkt) < ipv6Len {
		return src, dst, 0, ErrPacket
	}
	i.V6 = true
	i.TotalLen = ipv6Len + int(binary.BigEndian.Uint16(pkt[4:]))
	if len(pkt) < i.TotalLen && !quoted {
		return src, dst, 0, ErrPacket
	}
	i.TOS, i.TTL = pkt[0]<<4|pkt[1]>>4, pkt[7]
	i.NextAt, i.HeaderLen = 6, ipv6Len
	if offset, err = i.walk(pkt[:min(i.TotalLen, len(pkt))]); err != nil {
		return src, dst, 0, err
	}
	return netip.AddrFrom16([16]byte(pkt[8:24])), netip.AddrFrom16([16]byte(pkt[24:40])), offset, nil
}

// walk goes through the extension headers. Those that routers look at stay in front of ESP: hop-by-hop options, routing,
// fragment, and destination options before a routing header (RFC 4303 §3.1.1).
func (i *PacketInfo) walk(pkt []byte) (offset int, err error) {
	nextAt, at, fragments := 6, ipv6Len, 0
	for n := 0; ; n++ {
		var size int
		next := pkt[nextAt]
		switch {
		case next == protoHopByHop && n > 0: // RFC 8200 §4.1: first or not at all
			return 0, ErrPacket
		case next == protoHopByHop || next == protoRouting || next == protoDstOpts:
			if at+2 > len(pkt) {
				return 0, ErrPacket
			}
			size = 8 * (int(pkt[at+1]) + 1)
			if next == protoRouting && (at+4 > len(pkt) || pkt[at+3] != 0) { // not at its last destination (RFC 5095)
				return 0, ErrPacket
			}
		case next == protoFragment:
			size = fragmentHdrLen
			if fragments++; fragments > 1 || at+size > len(pkt) {
				return 0, ErrPacket
			}
			field := binary.BigEndian.Uint16(pkt[at+2:])
			offset, i.Fragment = int(field&^7), field&^6 != 0
		default:
			i.Upper, i.UpperAt = next, at
			return offset, nil
		}
		if n == maxExtensions || at+size > len(pkt) {
			return 0, ErrPacket
		}
		nextAt, at = at, at+size
		if next != protoDstOpts {
			i.NextAt, i.HeaderLen = nextAt, at
		}
		if offset != 0 { // what follows is the middle of something
			i.Upper, i.UpperAt = pkt[nextAt], at
			return offset, nil
		}
	}
}

// ports reads the ports of a whole packet or first fragment; for ICMP type and code (RFC 7296 §3.13.1).
func ports(b []byte, i PacketInfo, quoted bool) (src, dst uint16, err error) {
	var least int // a header that is cut hides what the receiver will see (RFC 1858)
	switch i.Upper {
	case selector.TCP:
		least = 20
	case selector.UDP, protoUDPLite:
		least = 8
	case selector.SCTP, protoDCCP:
		least = 12
	case selector.ICMP, selector.ICMPv6:
		least = 4
	default:
		return 0, 0, nil
	}
	if quoted || i.Fragment {
		least = min(least, 8)
	}
	if len(b) < least {
		return 0, 0, ErrPacket
	}
	if i.Upper == selector.ICMP || i.Upper == selector.ICMPv6 {
		p := binary.BigEndian.Uint16(b)
		return p, p, nil
	}
	return binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:]), nil
}
