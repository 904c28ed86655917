package wire

import (
	"bytes"
	"encoding/binary"
	"slices"
)

// CP is the Configuration payload (RFC 7296 §3.15).
type CP struct {
	Type     uint8 // 1 REQUEST, 2 REPLY, 3 SET, 4 ACK
	Reserved [3]byte
	Attrs    []ConfigAttribute
}

// ConfigAttribute is one attribute of a CP payload.
type ConfigAttribute struct {
	Reserved bool // the bit before the type, as received
	Type     uint16
	Value    []byte
}

func parseCP(b []byte) (Body, error) {
	const fixed, reservedBit = 4, 0x8000
	if len(b) < fixed {
		return nil, &Error{"CP", "header", ErrTruncated}
	}
	cp := CP{Type: b[0], Reserved: [3]byte(b[1:4])}
	for b = b[fixed:]; len(b) > 0; {
		if len(b) < 4 {
			return nil, &Error{"CP", "attribute", ErrTruncated}
		}
		kind, n := binary.BigEndian.Uint16(b), int(binary.BigEndian.Uint16(b[2:]))
		if b = b[4:]; n > len(b) {
			return nil, &Error{"CP", "attribute", ErrTruncated}
		}
		cp.Attrs = append(cp.Attrs, ConfigAttribute{kind&reservedBit != 0, kind &^ reservedBit, b[:n:n]})
		b = b[n:]
	}
	return cp, nil
}

func (c CP) append(dst []byte) []byte {
	dst = append(dst, c.Type, c.Reserved[0], c.Reserved[1], c.Reserved[2])
	for _, a := range c.Attrs {
		kind := a.Type
		if a.Reserved {
			kind |= 0x8000
		}
		dst = binary.BigEndian.AppendUint16(dst, kind)
		dst = binary.BigEndian.AppendUint16(dst, uint16(len(a.Value)))
		dst = append(dst, a.Value...)
	}
	return dst
}

func (c CP) clone() Body {
	c.Attrs = slices.Clone(c.Attrs)
	for i := range c.Attrs {
		c.Attrs[i].Value = bytes.Clone(c.Attrs[i].Value)
	}
	return c
}
