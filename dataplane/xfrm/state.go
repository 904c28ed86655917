package xfrm

import (
	"encoding/binary"
	"net/netip"
)

// Sizes of the kernel's structures, and the range in which it draws SPIs for states that are deleted at once.
const (
	stateLen = 224
	minSPI   = 0x100
	maxSPI   = 0xffffffff
)

// state is what this package uses of struct xfrm_usersa_info and its attributes.
type state struct {
	to, from netip.Addr
	spi      uint32
	proto    uint8
	seq      uint32 // of the acquire that made it
	reqid    uint32
	mode     uint8
	mark     mark
}

// readState reads struct xfrm_usersa_info and its attributes.
func readState(b []byte) (s state, err error) {
	if len(b) < stateLen {
		return s, errShort
	}
	family := order.Uint16(b[212:])
	if s.to, err = address(family, b[56:]); err != nil {
		return s, err
	}
	if s.from, err = address(family, b[80:]); err != nil {
		return s, err
	}
	s.spi, s.proto = binary.BigEndian.Uint32(b[72:]), b[76]
	s.seq, s.reqid, s.mode = order.Uint32(b[204:]), order.Uint32(b[208:]), b[214]
	err = attributes(b[stateLen:], func(typ uint16, v []byte) {
		if typ == attrMark && len(v) >= 8 {
			s.mark = mark{order.Uint32(v), order.Uint32(v[4:])}
		}
	})
	return s, err
}

// putAlloc is struct xfrm_userspi_info, which gives the state an SPI.
func (s state) putAlloc() []byte {
	b := zeros(nil, 56) // selector
	b = putAddress(b, s.to)
	b = zeros(b, 4)
	b = append(b, s.proto, 0, 0, 0)
	b = putAddress(b, s.from)
	b = zeros(b, 64+32+12) // lifetimes, usage, statistics
	b = order.AppendUint32(b, s.seq)
	b = order.AppendUint32(b, s.reqid)
	b = order.AppendUint16(b, familyOf(s.to))
	b = append(b, s.mode)
	b = zeros(b, stateLen-215)
	b = order.AppendUint32(b, minSPI)
	b = order.AppendUint32(b, maxSPI)
	return attribute(b, attrMark, s.mark.put())
}

// putID is struct xfrm_usersa_id, by which a state is deleted.
func (s state) putID() []byte {
	b := putAddress(nil, s.to)
	b = binary.BigEndian.AppendUint32(b, s.spi)
	b = order.AppendUint16(b, familyOf(s.to))
	b = append(b, s.proto, 0)
	return attribute(b, attrMark, s.mark.put())
}

// filter is the attribute that restricts a listing of states to destinations in a prefix.
func filter(p netip.Prefix) []byte {
	b := zeros(nil, 16) // any source
	b = putAddress(b, p.Addr())
	b = order.AppendUint16(b, familyOf(p.Addr()))
	return attribute(nil, attrFilter, append(b, 0, byte(p.Bits())))
}

// putAddress is xfrm_address_t.
func putAddress(b []byte, a netip.Addr) []byte {
	raw := a.AsSlice()
	return zeros(append(b, raw...), 16-len(raw))
}

// address reads xfrm_address_t.
func address(family uint16, b []byte) (netip.Addr, error) {
	switch family {
	case afInet:
		return netip.AddrFrom4([4]byte(b[:4])), nil
	case afInet6:
		return netip.AddrFrom16([16]byte(b[:16])), nil
	}
	return netip.Addr{}, errFamily
}
