package wire

import "encoding/binary"

// HeaderLen is the length of the IKE header in octets.
const HeaderLen = 28

// Version is IKEv2's major and minor version in the header.
const Version = 0x20

// Flags of the header (RFC 7296 §3.1).
const (
	FlagInitiator uint8 = 0x08 // sent by the original initiator of the IKE SA
	FlagVersion   uint8 = 0x10
	FlagResponse  uint8 = 0x20
)

// Header is the IKE header (RFC 7296 §3.1).
type Header struct {
	SPIi, SPIr  uint64
	NextPayload PayloadType
	Version     uint8
	Exchange    ExchangeType
	Flags       uint8
	MessageID   uint32
	Length      uint32 // of the whole message
}

// ParseHeader reads the first 28 octets. It does not compare Length with the datagram, and accepts any version: an
// answer to a higher one needs the rest (RFC 7296 §2.5).
func ParseHeader(b []byte) (Header, error) {
	if len(b) < HeaderLen {
		return Header{}, &Error{"header", "length", ErrTruncated}
	}
	return Header{
		SPIi: binary.BigEndian.Uint64(b), SPIr: binary.BigEndian.Uint64(b[8:]),
		NextPayload: PayloadType(b[16]), Version: b[17], Exchange: ExchangeType(b[18]), Flags: b[19],
		MessageID: binary.BigEndian.Uint32(b[20:]), Length: binary.BigEndian.Uint32(b[24:]),
	}, nil
}

// Append appends the 28 octets of h, as they are.
func (h Header) Append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint64(dst, h.SPIi)
	dst = binary.BigEndian.AppendUint64(dst, h.SPIr)
	dst = append(dst, byte(h.NextPayload), h.Version, byte(h.Exchange), h.Flags)
	dst = binary.BigEndian.AppendUint32(dst, h.MessageID)
	return binary.BigEndian.AppendUint32(dst, h.Length)
}

// Response reports whether the message is a response.
func (h Header) Response() bool { return h.Flags&FlagResponse != 0 }

// Initiator reports whether the original initiator of the IKE SA sent the message.
func (h Header) Initiator() bool { return h.Flags&FlagInitiator != 0 }
