package flow

import (
	"encoding/binary"
	"net/netip"

	"github.com/btns-ipsec/btns/selector"
)

// sum adds b to a one's complement sum (RFC 1071). 64 bits hold what any packet adds up to.
func sum(s uint64, b []byte) uint64 {
	for ; len(b) >= 2; b = b[2:] {
		s += uint64(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		s += uint64(b[0]) << 8
	}
	return s
}

func fold(s uint64) uint16 {
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

// Checksum is the Internet checksum of b (RFC 1071).
func Checksum(b []byte) uint16 { return ^fold(sum(0, b)) }

// UpperChecksum is the checksum of a TCP, UDP or ICMPv6 segment under its pseudo-header (RFC 9293 §3.1, RFC 8200 §8.1).
// The checksum field in it counts: it is 0 to compute, and the result is 0 to verify.
func UpperChecksum(src, dst netip.Addr, proto uint8, segment []byte) uint16 {
	return ^fold(sum(sumAddrs(src, dst)+uint64(proto)+uint64(len(segment)), segment))
}

func sumAddrs(a, b netip.Addr) uint64 { return sumAddr(sumAddr(0, a), b) }

func sumAddr(s uint64, a netip.Addr) uint64 {
	if a.Is4() {
		b := a.As4()
		return sum(s, b[:])
	}
	b := a.As16()
	return sum(s, b[:])
}

// setChecksum4 fills in the checksum of an IPv4 header.
func setChecksum4(header []byte) {
	header[10], header[11] = 0, 0
	binary.BigEndian.PutUint16(header[10:], Checksum(header))
}

// PutHeader writes an IP header of 20 or 40 octets for n octets of payload to b, and returns its length. IPv4 goes with DF
// and without an ID, as an atomic datagram (RFC 6864 §4.1).
func PutHeader(b []byte, src, dst netip.Addr, proto, tos, ttl uint8, n int) int {
	if ttl == 0 {
		ttl = defaultTTL
	}
	if src.Is4() {
		h := b[:ipv4Len]
		h[0], h[1] = 0x45, tos
		binary.BigEndian.PutUint16(h[2:], uint16(ipv4Len+n))
		binary.BigEndian.PutUint32(h[4:], 0x4000)
		h[8], h[9] = ttl, proto
		s, d := src.As4(), dst.As4()
		copy(h[12:], s[:])
		copy(h[16:], d[:])
		setChecksum4(h)
		return ipv4Len
	}
	h := b[:ipv6Len]
	binary.BigEndian.PutUint32(h, 6<<28|uint32(tos)<<20)
	binary.BigEndian.PutUint16(h[4:], uint16(n))
	h[6], h[7] = proto, ttl
	s, d := src.As16(), dst.As16()
	copy(h[8:], s[:])
	copy(h[24:], d[:])
	return ipv6Len
}

// checksumAt is where the checksum over the pseudo-header stands in a segment, or -1.
func checksumAt(proto uint8) int {
	switch proto {
	case selector.TCP:
		return 16
	case selector.UDP, protoUDPLite, protoDCCP:
		return 6
	case selector.ICMPv6:
		return 2
	}
	return -1
}

// Addrs are the two ends that a pseudo-header names.
type Addrs struct{ Src, Dst netip.Addr }

// RepairChecksum changes the checksum of a segment that was computed over other addresses than those it is delivered
// with (RFC 3948 §3.1.2, by the rule of RFC 1624). A UDP checksum of 0 means none and stays.
func RepairChecksum(segment []byte, proto uint8, was, is Addrs) {
	at := checksumAt(proto)
	if at < 0 || len(segment) < at+2 || was == is {
		return
	}
	field := segment[at : at+2]
	old := binary.BigEndian.Uint16(field)
	if old == 0 && proto == selector.UDP {
		return
	}
	s := uint64(^old) + uint64(^fold(sumAddrs(was.Src, was.Dst))) + sumAddrs(is.Src, is.Dst)
	fixed := ^fold(s)
	if fixed == 0 && (proto == selector.UDP || proto == protoUDPLite) {
		fixed = 0xffff
	}
	binary.BigEndian.PutUint16(field, fixed)
}

// The ECN field (RFC 3168 §5).
const (
	notECT = 0
	ect1   = 1
	ect0   = 2
	ce     = 3
)

// DecapsulateECN is the ECN field of a packet that comes out of a tunnel (RFC 6040 §4.2, figure 4): ok is false for one to
// be dropped, odd is true for a combination that points to an error or an attack.
func DecapsulateECN(inner, outer uint8) (ecn uint8, ok, odd bool) {
	inner, outer = inner&3, outer&3
	switch {
	case inner == notECT:
		return notECT, outer != ce, outer != notECT
	case inner == ce:
		return ce, true, outer == ect1
	case outer == ce:
		return ce, true, false
	case outer == ect1:
		return ect1, true, false
	}
	return inner, true, inner == ect1 && outer == ect0
}

// setECN writes the ECN field of a packet.
func setECN(pkt []byte, v6 bool, ecn uint8) {
	if v6 {
		pkt[1] = pkt[1]&^0x30 | ecn<<4
		return
	}
	if n := int(pkt[0]&15) * 4; pkt[1]&3 != ecn {
		pkt[1] = pkt[1]&^3 | ecn
		setChecksum4(pkt[:n])
	}
}
