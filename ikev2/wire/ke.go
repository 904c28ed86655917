package wire

import (
	"encoding/binary"
	"slices"
)

// KE is the Key Exchange payload (RFC 7296 §3.4).
type KE struct {
	Method   uint16
	Reserved uint16
	Data     []byte
}

func parseKE(b []byte) (KE, error) {
	const fixed = 4
	if len(b) < fixed {
		return KE{}, &Error{"KE", "header", ErrTruncated}
	}
	return KE{Method: binary.BigEndian.Uint16(b), Reserved: binary.BigEndian.Uint16(b[2:]), Data: b[fixed:]}, nil
}

func (k KE) appendTo(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint16(dst, k.Method)
	dst = binary.BigEndian.AppendUint16(dst, k.Reserved)
	return append(dst, k.Data...)
}

func (k KE) clone() Body { k.Data = slices.Clone(k.Data); return k }
func (KE) check() error  { return nil }
func (KE) items() int    { return 0 }
