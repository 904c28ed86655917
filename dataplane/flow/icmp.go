package flow

import (
	"encoding/binary"
	"net/netip"

	"github.com/btns-ipsec/btns/protect"
	"github.com/btns-ipsec/btns/selector"
)

const (
	icmpLen    = 8
	minMTU4    = 68
	minMTU6    = 1280
	udpLen     = 8
	tcpMin     = 20
	optionMSS  = 2
	maxPathMTU = 65535
)

// icmpError reports whether f is an ICMP error that quotes a packet.
func icmpError(proto uint8, typ byte) bool {
	switch proto {
	case selector.ICMP:
		return typ == 3 || typ == 11 || typ == 12
	case selector.ICMPv6:
		return typ >= 1 && typ <= 4
	}
	return false
}

// quoted is the flow of the packet that an ICMP error quotes. Outbound says that this host sent that packet.
func quoted(pkt []byte, i *PacketInfo, outbound bool) (selector.Flow, bool) {
	end := min(i.TotalLen, len(pkt))
	if i.Fragment || i.UpperAt+icmpLen > end || !icmpError(i.Upper, pkt[i.UpperAt]) || (i.Upper == selector.ICMPv6) != i.V6 {
		return selector.Flow{}, false
	}
	f, q, err := parse(pkt[i.UpperAt+icmpLen:end], outbound, true)
	if err != nil || q.V6 != i.V6 || icmpError(q.Upper, byte(f.LocalPort>>8)) {
		return selector.Flow{}, false
	}
	return f, true
}

// PacketTooBig writes to dst the ICMP error that tells the sender of pkt that nothing longer than mtu passes (RFC 1191, RFC
// 4443 §3.2), as coming from an address, and returns it; nil when none may be sent: about an ICMP error or a later
// fragment, to no single host, or where IPv4 allows fragmentation. It takes at most 1280 octets.
func PacketTooBig(dst, pkt []byte, from netip.Addr, mtu int) []byte {
	f, i, err := ParseFlow(pkt, true)
	if err != nil || f.NoPorts || icmpError(i.Upper, byte(f.LocalPort>>8)) || from.Is4() == i.V6 ||
		f.Local.IsMulticast() || f.Local.IsUnspecified() || f.Remote.IsMulticast() {
		return nil
	}
	mtu = min(mtu, maxPathMTU)
	if i.V6 {
		return tooBig6(dst, pkt[:i.TotalLen], from, f.Local, max(mtu, minMTU6))
	}
	if !i.DF {
		return nil
	}
	quote := min(i.HeaderLen+8, i.TotalLen)
	n := ipv4Len + icmpLen + quote
	if cap(dst) < n {
		dst = make([]byte, n)
	}
	dst = dst[:n]
	PutHeader(dst, from, f.Local, selector.ICMP, 0, 0, icmpLen+quote)
	m := dst[ipv4Len:]
	copy(m[icmpLen:], pkt[:quote])
	binary.BigEndian.PutUint32(m, 3<<24|4<<16) // unreachable: fragmentation needed and DF set
	binary.BigEndian.PutUint32(m[4:], uint32(max(mtu, minMTU4)))
	binary.BigEndian.PutUint16(m[2:], Checksum(m))
	return dst
}

func tooBig6(dst, pkt []byte, from, to netip.Addr, mtu int) []byte {
	quote := min(len(pkt), minMTU6-ipv6Len-icmpLen)
	n := ipv6Len + icmpLen + quote
	if cap(dst) < n {
		dst = make([]byte, n)
	}
	dst = dst[:n]
	PutHeader(dst, from, to, selector.ICMPv6, 0, 0, icmpLen+quote)
	m := dst[ipv6Len:]
	copy(m[icmpLen:], pkt[:quote])
	binary.BigEndian.PutUint32(m, 2<<24)
	binary.BigEndian.PutUint32(m[4:], uint32(mtu))
	binary.BigEndian.PutUint16(m[2:], UpperChecksum(from, to, selector.ICMPv6, m))
	return dst
}

// InnerMTU is the longest packet that a pair carries over a path of that MTU without fragmentation. For transport mode it
// counts the plain IP header that the packet has inside this host.
func (p *Pair) InnerMTU(path int) int {
	outer := ipv6Len
	if p.OuterRemote.Addr().Is4() {
		outer = ipv4Len
	}
	room := path - outer
	if p.Encap {
		room -= udpLen
	}
	room = p.Sealer().MaxPayload(room)
	if p.Mode == protect.Transport {
		room += outer
	}
	return max(room, 0)
}

// ClampMSS lowers the MSS of a TCP packet with SYN so that its segments fit into mtu, and reports whether it did. With
// partial the checksum field holds the sum of the pseudo-header only, as a kernel leaves it for offload.
func ClampMSS(pkt []byte, i *PacketInfo, mtu int, partial bool) bool {
	if i.Upper != selector.TCP || i.Fragment || i.TotalLen > len(pkt) || i.TotalLen-i.UpperAt < tcpMin {
		return false
	}
	tcp := pkt[i.UpperAt:i.TotalLen]
	most := mtu - i.UpperAt - tcpMin
	size := int(tcp[12]>>4) * 4
	if tcp[13]&2 == 0 || size < tcpMin || size > len(tcp) || most < 1 {
		return false
	}
	for at := tcpMin; at < size; {
		switch kind := tcp[at]; {
		case kind == 0:
			return false
		case kind == 1:
			at++
			continue
		case at+1 >= size || tcp[at+1] < 2 || at+int(tcp[at+1]) > size:
			return false
		case kind == optionMSS && tcp[at+1] == 4:
			return lower(tcp, at+2, most, partial)
		}
		at += int(tcp[at+1])
	}
	return false
}

func lower(tcp []byte, at, most int, partial bool) bool {
	old := binary.BigEndian.Uint16(tcp[at:])
	if int(old) <= most {
		return false
	}
	binary.BigEndian.PutUint16(tcp[at:], uint16(most))
	if partial {
		return true
	}
	was, is := old, uint16(most)
	if at%2 == 1 { // an odd offset adds the octets the other way round
		was, is = was<<8|was>>8, is<<8|is>>8
	}
	c := binary.BigEndian.Uint16(tcp[16:])
	binary.BigEndian.PutUint16(tcp[16:], ^fold(uint64(^c)+uint64(^was)+uint64(is))) // RFC 1624
	return true
}
