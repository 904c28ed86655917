package wire

import (
	"bytes"
	"encoding/binary"
)

// Notify is the Notify payload (RFC 7296 §3.10).
type Notify struct {
	Protocol Protocol // of the SA that SPI names; to be ignored when SPI is empty
	Type     NotifyType
	SPI      []byte
	Data     []byte
}

func parseNotify(b []byte) (Body, error) {
	const fixed = 4
	if len(b) < fixed {
		return nil, &Error{"Notify", "header", ErrTruncated}
	}
	n := Notify{Protocol: Protocol(b[0]), Type: NotifyType(binary.BigEndian.Uint16(b[2:]))}
	size, rest := int(b[1]), b[fixed:]
	if size > len(rest) {
		return nil, &Error{"Notify", "SPI", ErrTruncated}
	}
	if size != 0 && size != n.Protocol.spiSize() {
		return nil, &Error{"Notify", "SPI", ErrSPISize}
	}
	n.SPI, n.Data = rest[:size:size], rest[size:]
	return n, nil
}

func (n Notify) append(dst []byte) []byte {
	dst = append(dst, byte(n.Protocol), byte(len(n.SPI)))
	dst = binary.BigEndian.AppendUint16(dst, uint16(n.Type))
	dst = append(dst, n.SPI...)
	return append(dst, n.Data...)
}

func (n Notify) clone() Body {
	n.SPI, n.Data = bytes.Clone(n.SPI), bytes.Clone(n.Data)
	return n
}

// Delete is the Delete payload (RFC 7296 §3.11).
type Delete struct {
	Protocol Protocol
	SPIs     []byte // Count times the SPI size of the protocol; empty for the IKE SA
}

func parseDelete(b []byte) (Body, error) {
	const fixed = 4
	if len(b) < fixed {
		return nil, &Error{"Delete", "header", ErrTruncated}
	}
	d := Delete{Protocol: Protocol(b[0]), SPIs: b[fixed:]}
	size, count := int(b[1]), int(binary.BigEndian.Uint16(b[2:]))
	switch d.Protocol {
	case ProtoIKE:
		if size != 0 || count != 0 {
			return nil, &Error{"Delete", "SPI", ErrSPISize}
		}
	case ProtoAH, ProtoESP:
		if size != d.Protocol.spiSize() {
			return nil, &Error{"Delete", "SPI", ErrSPISize}
		}
	default:
		return nil, &Error{"Delete", "protocol", ErrValue}
	}
	if size*count != len(d.SPIs) {
		return nil, &Error{"Delete", "SPIs", ErrLength}
	}
	return d, nil
}

// Each calls f with every SPI of an AH or ESP Delete.
func (d Delete) Each(f func(spi uint32)) {
	for b := d.SPIs; len(b) >= 4; b = b[4:] {
		f(binary.BigEndian.Uint32(b))
	}
}

func (d Delete) append(dst []byte) []byte {
	size := d.Protocol.spiSize()
	if d.Protocol == ProtoIKE {
		return append(dst, byte(d.Protocol), 0, 0, 0)
	}
	dst = append(dst, byte(d.Protocol), byte(size))
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(d.SPIs)/size))
	return append(dst, d.SPIs...)
}

func (d Delete) clone() Body {
	d.SPIs = bytes.Clone(d.SPIs)
	return d
}
