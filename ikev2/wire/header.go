package wire

import "encoding/binary"

// HeaderLen is the length of the IKE header.
const HeaderLen = 28

// Header is the IKE header (RFC 7296 §3.1).
type Header struct {
	SPIi, SPIr  uint64
	NextPayload PayloadType
	Version     uint8 // major<<4 | minor
	Exchange    ExchangeType
	Flags       uint8
	MessageID   uint32
	Length      uint32 // of the whole message
}

// Initiator says whether the original initiator of the IKE SA sent the message.
func (h Header) Initiator() bool { return h.Flags&FlagInitiator != 0 }

// Response says whether the message is a response.
func (h Header) Response() bool { return h.Flags&FlagResponse != 0 }

// Major is the major version.
func (h Header) Major() uint8 { return h.Version >> 4 }

// ParseHeader reads the header that b begins with and judges none of its fields: a message of a higher version
// deserves an answer (RFC 7296 §2.5).
func ParseHeader(b []byte) (Header, error) {
	if len(b) < HeaderLen {
		return Header{}, &Error{"message", "header", ErrTruncated}
	}
	return Header{
		SPIi:        binary.BigEndian.Uint64(b),
		SPIr:        binary.BigEndian.Uint64(b[8:]),
		NextPayload: PayloadType(b[16]),
		Version:     b[17],
		Exchange:    ExchangeType(b[18]),
		Flags:       b[19],
		MessageID:   binary.BigEndian.Uint32(b[20:]),
		Length:      binary.BigEndian.Uint32(b[24:]),
	}, nil
}

// Append appends the header as it stands.
func (h Header) Append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint64(dst, h.SPIi)
	dst = binary.BigEndian.AppendUint64(dst, h.SPIr)
	dst = append(dst, byte(h.NextPayload), h.Version, byte(h.Exchange), h.Flags)
	dst = binary.BigEndian.AppendUint32(dst, h.MessageID)
	return binary.BigEndian.AppendUint32(dst, h.Length)
}
