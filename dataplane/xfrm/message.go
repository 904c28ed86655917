package xfrm

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"github.com/btns-ipsec/btns/selector"
)

// Message and attribute types of include/uapi/linux/xfrm.h, and sizes of its structures.
const (
	msgDelState  = 0x11
	msgGetState  = 0x12
	msgNewPolicy = 0x13
	msgDelPolicy = 0x14
	msgGetPolicy = 0x15
	msgAllocSPI  = 0x16
	msgAcquire   = 0x17

	attrTemplate = 5
	attrMark     = 21
	attrFilter   = 26

	groupAcquire = 1
	directionOut = 1
	afInet       = 2
	afInet6      = 10
	protoESP     = 50

	selectorLen = 56
	policyLen   = 168
	templateLen = 64
	idLen       = 24
	acquireLen  = idLen + 16 + selectorLen + policyLen + 16
)

// Errors of reading.
var (
	errShort  = errors.New("xfrm: message cut short")
	errFamily = errors.New("xfrm: unknown address family")
)

// policy is what this package uses of struct xfrm_userpolicy_info and its attributes.
type policy struct {
	to       netip.Prefix
	icmp6    uint8 // one type of ICMPv6; 0: all packets
	index    uint32
	priority uint32
	reqid    uint32 // of a template of level "use"; 0: no template, packets pass
	mark     mark
}

type mark struct{ value, mask uint32 }

// order of octets in the kernel's structures; addresses and ports are in that of the network.
var order = binary.NativeEndian

func zeros(b []byte, n int) []byte { return append(b, make([]byte, n)...) }

func familyOf(a netip.Addr) uint16 {
	if a.Is4() {
		return afInet
	}
	return afInet6
}

// putSelector is struct xfrm_selector.
func (p policy) putSelector(b []byte) []byte {
	b = putAddress(b, p.to.Addr())
	b = zeros(b, 16+4) // source; destination port and mask
	proto := byte(0)
	if p.icmp6 != 0 { // the type is where others have the source port
		proto = selector.ICMPv6
		b = binary.BigEndian.AppendUint16(b, uint16(p.icmp6))
		b = append(b, 0xff, 0xff)
	} else {
		b = zeros(b, 4)
	}
	b = order.AppendUint16(b, familyOf(p.to.Addr()))
	b = append(b, byte(p.to.Bits()), 0, proto)
	return zeros(b, 3+4+4) // padding, interface, user
}

// put is struct xfrm_userpolicy_info with the attributes.
func (p policy) put() []byte {
	b := p.putSelector(nil)
	for range 4 { // soft and hard octets and packets: no limit
		b = order.AppendUint64(b, ^uint64(0))
	}
	b = zeros(b, 32+32) // lifetimes in time; usage
	b = order.AppendUint32(b, p.priority)
	b = order.AppendUint32(b, 0) // index: the kernel's
	b = append(b, directionOut, 0, 0, 0)
	b = zeros(b, 4)
	if p.reqid != 0 {
		b = attribute(b, attrTemplate, p.template())
	}
	return attribute(b, attrMark, p.mark.put())
}

// template is struct xfrm_user_tmpl: ESP in transport mode, optional.
func (p policy) template() []byte {
	b := zeros(nil, 16+4) // any destination, any SPI
	b = append(b, protoESP, 0, 0, 0)
	b = order.AppendUint16(b, familyOf(p.to.Addr()))
	b = zeros(b, 2+16)
	b = order.AppendUint32(b, p.reqid)
	b = append(b, 0, 0, 1, 0) // transport, any sharing, optional: level "use"
	for range 3 {
		b = order.AppendUint32(b, ^uint32(0)) // all algorithms
	}
	return b
}

func (m mark) put() []byte {
	return order.AppendUint32(order.AppendUint32(nil, m.value), m.mask)
}

// putID is struct xfrm_userpolicy_id, by which a policy is deleted.
func (p policy) putID() []byte {
	b := p.putSelector(nil)
	b = order.AppendUint32(b, p.index)
	b = append(b, directionOut, 0, 0, 0)
	return attribute(b, attrMark, p.mark.put())
}

// attribute appends a netlink attribute.
func attribute(b []byte, typ uint16, v []byte) []byte {
	b = order.AppendUint16(b, uint16(4+len(v)))
	b = order.AppendUint16(b, typ)
	b = append(b, v...)
	return zeros(b, -len(v)&3)
}

// attributes calls f for every attribute in b.
func attributes(b []byte, f func(typ uint16, v []byte)) error {
	for len(b) > 0 {
		if len(b) < 4 {
			return errShort
		}
		n, typ := int(order.Uint16(b)), order.Uint16(b[2:])
		if n < 4 || n > len(b) {
			return errShort
		}
		f(typ&0x3fff, b[4:n])
		b = b[min((n+3)&^3, len(b)):]
	}
	return nil
}

// readPolicy reads struct xfrm_userpolicy_info and its attributes; out is false for one of another direction.
func readPolicy(b []byte) (p policy, out bool, err error) {
	if len(b) < policyLen {
		return p, false, errShort
	}
	a, err := readEnd(b, 0)
	if err != nil {
		return p, false, err
	}
	if p.to, err = a.Prefix(min(int(b[42]), a.BitLen())); err != nil {
		return p, false, err
	}
	if b[44] == selector.ICMPv6 {
		p.icmp6 = b[37]
	}
	p.priority, p.index = order.Uint32(b[152:]), order.Uint32(b[156:])
	err = attributes(b[policyLen:], func(typ uint16, v []byte) {
		switch {
		case typ == attrTemplate && len(v) >= templateLen:
			p.reqid = order.Uint32(v[44:])
		case typ == attrMark && len(v) >= 8:
			p.mark = mark{order.Uint32(v), order.Uint32(v[4:])}
		}
	})
	return p, b[160] == directionOut, err
}

// readEnd reads an address of the selector at b: the destination at 0 or the source at 16.
func readEnd(b []byte, at int) (netip.Addr, error) {
	return address(order.Uint16(b[40:]), b[at:])
}

// readAcquire reads struct xfrm_user_acquire: the flow that asks, and the request ID of the policy that made it ask.
func readAcquire(b []byte) (f selector.Flow, reqid uint32, err error) {
	if len(b) < acquireLen {
		return f, 0, errShort
	}
	sel := b[idLen+16:]
	if f.Remote, err = readEnd(sel, 0); err != nil {
		return f, 0, err
	}
	if f.Local, err = readEnd(sel, 16); err != nil {
		return f, 0, err
	}
	f.Proto = sel[44]
	dst, src := binary.BigEndian.Uint16(sel[32:]), binary.BigEndian.Uint16(sel[36:])
	switch f.Proto {
	case selector.ICMP, selector.ICMPv6: // the kernel has the type as source port and the code as destination port
		f.LocalPort = src<<8 | dst&0xff
		f.RemotePort = f.LocalPort
	default:
		f.LocalPort, f.RemotePort = src, dst
	}
	err = attributes(b[acquireLen:], func(typ uint16, v []byte) {
		if typ == attrTemplate && len(v) >= templateLen {
			reqid = order.Uint32(v[44:])
		}
	})
	return f, reqid, err
}
