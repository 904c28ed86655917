package wire

import (
	"encoding/binary"
	"slices"
)

// Delete is the Delete payload (RFC 7296 §3.11): of the IKE SA it travels in, then without SPIs, or of Child SAs.
type Delete struct {
	Protocol Protocol
	SPIs     []uint32 // those that the sender receives on
}

func parseDelete(b []byte) (Delete, error) {
	const fixed = 4
	if len(b) < fixed {
		return Delete{}, &Error{"D", "header", ErrTruncated}
	}
	d := Delete{Protocol: Protocol(b[0])}
	size, count, rest := int(b[1]), int(binary.BigEndian.Uint16(b[2:])), b[fixed:]
	switch d.Protocol {
	case ProtoIKE:
		if size != 0 {
			return Delete{}, &Error{"D", "SPI size", ErrSPISize}
		}
		if count != 0 {
			return Delete{}, &Error{"D", "number of SPIs", ErrCount}
		}
	case ProtoAH, ProtoESP:
		if size != 4 {
			return Delete{}, &Error{"D", "SPI size", ErrSPISize}
		}
	default:
		return Delete{}, &Error{"D", "protocol", ErrProtocol}
	}
	switch {
	case len(rest) < count*size:
		return Delete{}, &Error{"D", "SPIs", ErrTruncated}
	case len(rest) > count*size:
		return Delete{}, &Error{"D", "SPIs", ErrTrailing}
	case count > maxItems:
		return Delete{}, &Error{"D", "SPIs", ErrTooMany}
	}
	for ; len(rest) > 0; rest = rest[4:] {
		if d.SPIs == nil {
			d.SPIs = make([]uint32, 0, count)
		}
		d.SPIs = append(d.SPIs, binary.BigEndian.Uint32(rest))
	}
	return d, nil
}

func (d Delete) appendTo(dst []byte) []byte {
	size := byte(4)
	if d.Protocol == ProtoIKE {
		size = 0
	}
	dst = append(dst, byte(d.Protocol), size)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(d.SPIs)))
	for _, spi := range d.SPIs {
		dst = binary.BigEndian.AppendUint32(dst, spi)
	}
	return dst
}

func (d Delete) check() error {
	switch {
	case d.Protocol == ProtoIKE && len(d.SPIs) != 0:
		return &Error{"D", "number of SPIs", ErrCount}
	case len(d.SPIs) > maxItems:
		return &Error{"D", "SPIs", ErrTooMany}
	case d.Protocol != ProtoIKE && d.Protocol != ProtoAH && d.Protocol != ProtoESP:
		return &Error{"D", "protocol", ErrProtocol}
	}
	return nil
}

func (d Delete) clone() Body { d.SPIs = slices.Clone(d.SPIs); return d }
func (d Delete) items() int  { return len(d.SPIs) }
