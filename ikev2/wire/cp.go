package wire

import (
	"encoding/binary"
	"slices"
)

// CPType says what a Configuration payload is (RFC 7296 §3.15).
type CPType uint8

// Kinds of Configuration payloads.
const (
	CPRequest CPType = 1
	CPReply   CPType = 2
	CPSet     CPType = 3
	CPAck     CPType = 4
)

// CPAttrType is a configuration attribute (RFC 7296 §3.15.1).
type CPAttrType uint16

// Configuration attributes.
const (
	InternalIP4Address  CPAttrType = 1
	InternalIP4Netmask  CPAttrType = 2
	InternalIP4DNS      CPAttrType = 3
	InternalIP4NBNS     CPAttrType = 4
	InternalIP4DHCP     CPAttrType = 6
	ApplicationVersion  CPAttrType = 7
	InternalIP6Address  CPAttrType = 8
	InternalIP6DNS      CPAttrType = 10
	InternalIP6DHCP     CPAttrType = 12
	InternalIP4Subnet   CPAttrType = 13
	SupportedAttributes CPAttrType = 14
	InternalIP6Subnet   CPAttrType = 15
	InternalDNSDomain   CPAttrType = 25 // RFC 8598
	InternalDNSSECTA    CPAttrType = 26 // RFC 8598
)

// CP is the Configuration payload (RFC 7296 §3.15).
type CP struct {
	Type     CPType
	Reserved [3]byte
	Attrs    []CPAttr
}

// CPAttr is one attribute of a Configuration payload.
type CPAttr struct {
	Type  CPAttrType // 15 bits
	R     bool       // reserved bit
	Value []byte     // of an address or subnet: as long as it must be, or empty
}

func parseCP(b []byte) (CP, error) {
	const fixed, attr = 4, 4
	if len(b) < fixed {
		return CP{}, &Error{"CP", "header", ErrTruncated}
	}
	c := CP{Type: CPType(b[0]), Reserved: [3]byte(b[1:4])}
	for b = b[fixed:]; len(b) > 0; {
		if len(b) < attr {
			return CP{}, &Error{"CP", "attribute", ErrTruncated}
		}
		t, n := binary.BigEndian.Uint16(b), int(binary.BigEndian.Uint16(b[2:]))
		b = b[attr:]
		if n > len(b) {
			return CP{}, &Error{"CP", "attribute value", ErrTruncated}
		}
		a := CPAttr{Type: CPAttrType(t & 0x7fff), R: t&0x8000 != 0, Value: b[:n:n]}
		if !a.Type.allows(n) {
			return CP{}, &Error{"CP", "attribute value", ErrLength}
		}
		if len(c.Attrs) == maxItems {
			return CP{}, &Error{"CP", "attributes", ErrTooMany}
		}
		c.Attrs, b = append(c.Attrs, a), b[n:]
	}
	return c, nil
}

// allows says whether a value of this attribute can have n octets (RFC 7296 §3.15.1).
func (t CPAttrType) allows(n int) bool {
	switch t {
	case InternalIP4Address, InternalIP4Netmask, InternalIP4DNS, InternalIP4NBNS, InternalIP4DHCP:
		return n == 0 || n == 4
	case InternalIP4Subnet:
		return n == 0 || n == 8
	case InternalIP6DNS, InternalIP6DHCP:
		return n == 0 || n == 16
	case InternalIP6Address, InternalIP6Subnet:
		return n == 0 || n == 17
	case SupportedAttributes:
		return n%2 == 0
	}
	return true
}

func (c CP) appendTo(dst []byte) []byte {
	dst = append(dst, byte(c.Type), c.Reserved[0], c.Reserved[1], c.Reserved[2])
	for _, a := range c.Attrs {
		t := uint16(a.Type) & 0x7fff
		if a.R {
			t |= 0x8000
		}
		dst = binary.BigEndian.AppendUint16(dst, t)
		dst = binary.BigEndian.AppendUint16(dst, uint16(len(a.Value)))
		dst = append(dst, a.Value...)
	}
	return dst
}

func (c CP) check() error {
	if len(c.Attrs) > maxItems {
		return &Error{"CP", "attributes", ErrTooMany}
	}
	for _, a := range c.Attrs {
		if !a.Type.allows(len(a.Value)) || len(a.Value) > 0xffff {
			return &Error{"CP", "attribute value", ErrLength}
		}
	}
	return nil
}

func (c CP) clone() Body {
	c.Attrs = slices.Clone(c.Attrs)
	for i := range c.Attrs {
		c.Attrs[i].Value = slices.Clone(c.Attrs[i].Value)
	}
	return c
}

func (c CP) items() int { return len(c.Attrs) }
