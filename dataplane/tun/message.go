//go:build linux

package tun

import (
	"encoding/binary"
	"net/netip"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mmsghdr is struct mmsghdr of sendmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
	_   [4]byte
}

// Sizes of control messages, with their padding.
const (
	cmsgHeader = unix.SizeofCmsghdr
	cmsgInt    = (cmsgHeader + 4 + 7) &^ 7
	cmsgInfo4  = (cmsgHeader + unix.SizeofInet4Pktinfo + 7) &^ 7
	cmsgInfo6  = (cmsgHeader + unix.SizeofInet6Pktinfo + 7) &^ 7
	controlLen = 2*cmsgInt + cmsgInfo6
)

// dest is where packets go and from which address. But for asked it is not changed once made.
type dest struct {
	remote, local netip.AddrPort
	socket        *socket
	sa            *sa          // of ESP
	asked         atomic.Int64 // when this path was last asked for its MTU
	name          [unix.SizeofSockaddrInet6]byte
	nameLen       uint32
	info          [cmsgInfo6]byte // control message with the local address
	infoLen       int
}

// newDest makes the destination of packets through s; an invalid or unspecified local address leaves the choice to the
// system.
func newDest(s *socket, local, remote netip.AddrPort) *dest {
	d := &dest{remote: remote, local: local, socket: s}
	number := remote.Port()
	if s.kind == rawSocket {
		number = 0
	}
	binary.BigEndian.PutUint16(d.name[2:], number)
	ra, la := remote.Addr().Unmap(), local.Addr().Unmap()
	given := la.IsValid() && !la.IsUnspecified()
	if !s.v6 {
		binary.NativeEndian.PutUint16(d.name[:], unix.AF_INET)
		a := ra.As4()
		copy(d.name[4:], a[:])
		d.nameLen = unix.SizeofSockaddrInet4
		if given {
			a := la.As4()
			copy(d.control(unix.IPPROTO_IP, unix.IP_PKTINFO, unix.SizeofInet4Pktinfo)[4:], a[:]) // ipi_spec_dst
		}
		return d
	}
	binary.NativeEndian.PutUint16(d.name[:], unix.AF_INET6)
	a := ra.As16()
	copy(d.name[8:], a[:])
	d.nameLen = unix.SizeofSockaddrInet6
	if given {
		a := la.As16()
		copy(d.control(unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, unix.SizeofInet6Pktinfo), a[:])
	}
	return d
}

func (d *dest) control(level, typ int32, n int) []byte {
	d.infoLen = (cmsgHeader + n + 7) &^ 7
	return putControl(d.info[:], level, typ, n)
}

// putControl writes the header of a control message with n octets of data and returns these.
func putControl(b []byte, level, typ int32, n int) []byte {
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
	h.Level, h.Type = level, typ
	h.SetLen(cmsgHeader + n)
	return b[cmsgHeader : cmsgHeader+n]
}

// arrival is what the control messages of a received datagram say.
type arrival struct {
	local   netip.Addr
	segment int // size of the segments that UDP GRO joined; 0: one
	tos     byte
	index   uint32 // of the interface
}

// readControl reads control messages.
func readControl(b []byte) (a arrival) {
	for len(b) >= cmsgHeader {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
		n := int(h.Len)
		if n < cmsgHeader || n > len(b) {
			return a
		}
		data := b[cmsgHeader:n]
		switch {
		case h.Level == unix.IPPROTO_UDP && h.Type == unix.UDP_GRO && len(data) >= 4:
			a.segment = int(binary.NativeEndian.Uint32(data))
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			a.index, a.local = binary.NativeEndian.Uint32(data), netip.AddrFrom4([4]byte(data[8:12])) // ipi_addr
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_TOS && len(data) >= 1:
			a.tos = data[0]
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
			a.local, a.index = netip.AddrFrom16([16]byte(data)), binary.NativeEndian.Uint32(data[16:])
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_TCLASS && len(data) >= 4:
			a.tos = byte(binary.NativeEndian.Uint32(data))
		}
		b = b[min((n+7)&^7, len(b)):]
	}
	return a
}

// readName reads the sender's address.
func readName(b *[unix.SizeofSockaddrInet6]byte) netip.AddrPort {
	number := binary.BigEndian.Uint16(b[2:])
	if binary.NativeEndian.Uint16(b[:]) == unix.AF_INET {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), number)
	}
	return netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[8:24])), number)
}
