package wire

import (
	"encoding/binary"
	"slices"
)

// EAP is the Extensible Authentication payload (RFC 7296 §3.16).
type EAP struct {
	Code       uint8 // 1 request, 2 response, 3 success, 4 failure
	Identifier uint8
	Data       []byte // type and type data of a request or response, else empty
}

func parseEAP(b []byte) (EAP, error) {
	const fixed = 4
	if len(b) < fixed {
		return EAP{}, &Error{"EAP", "header", ErrTruncated}
	}
	if int(binary.BigEndian.Uint16(b[2:])) != len(b) { // RFC 7296 §3.16: four less than the payload length
		return EAP{}, &Error{"EAP", "length", ErrLength}
	}
	e := EAP{Code: b[0], Identifier: b[1], Data: b[fixed:]}
	return e, e.check()
}

// RFC 7296 §3.16: a type in requests and responses, and only there.
func (e EAP) check() error {
	if typed := e.Code == 1 || e.Code == 2; typed != (len(e.Data) > 0) {
		return &Error{"EAP", "type", ErrLength}
	}
	return nil
}

func (e EAP) appendTo(dst []byte) []byte {
	dst = append(dst, e.Code, e.Identifier)
	dst = binary.BigEndian.AppendUint16(dst, uint16(4+len(e.Data)))
	return append(dst, e.Data...)
}

func (e EAP) clone() Body { e.Data = slices.Clone(e.Data); return e }
func (EAP) items() int    { return 0 }
