package wire

import (
	"encoding/binary"
	"slices"
)

// Notify is the Notify payload (RFC 7296 §3.10).
type Notify struct {
	Protocol Protocol // of the SA that SPI names; means nothing when SPI is empty
	Type     NotifyType
	SPI      []byte
	Data     []byte
}

// SPI32 is the ESP or AH SPI that the notify names.
func (n Notify) SPI32() (uint32, bool) {
	if len(n.SPI) != 4 {
		return 0, false
	}
	return binary.BigEndian.Uint32(n.SPI), true
}

func parseNotify(b []byte) (Notify, error) {
	const fixed = 4
	if len(b) < fixed {
		return Notify{}, &Error{"N", "header", ErrTruncated}
	}
	n := Notify{Protocol: Protocol(b[0]), Type: NotifyType(binary.BigEndian.Uint16(b[2:]))}
	size, rest := int(b[1]), b[fixed:]
	if size > len(rest) {
		return Notify{}, &Error{"N", "SPI", ErrTruncated}
	}
	n.SPI, n.Data = rest[:size:size], rest[size:]
	return n, n.check()
}

// RFC 7296 §3.10: a protocol without SPI is ignored, an SPI has the size that its protocol demands.
func (n Notify) check() error {
	if len(n.SPI) > 0xff || len(n.SPI) != 0 && !n.Protocol.allowsSPI(len(n.SPI)) {
		return &Error{"N", "SPI", ErrSPISize}
	}
	return nil
}

func (n Notify) appendTo(dst []byte) []byte {
	dst = append(dst, byte(n.Protocol), uint8(len(n.SPI)))
	dst = binary.BigEndian.AppendUint16(dst, uint16(n.Type))
	return append(append(dst, n.SPI...), n.Data...)
}

func (n Notify) clone() Body {
	n.SPI, n.Data = slices.Clone(n.SPI), slices.Clone(n.Data)
	return n
}

func (Notify) items() int { return 0 }
