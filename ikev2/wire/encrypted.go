package wire

import (
	"bytes"
	"encoding/binary"
)

// Encrypted is the SK payload (RFC 7296 §3.14) or, with Total not 0, the SKF payload (RFC 7383 §2.5).
type Encrypted struct {
	First    PayloadType // of the chain inside; in SKF of the first fragment only, else 0
	Fragment uint16      // from 1
	Total    uint16
	Data     []byte // IV, ciphertext, ICV
}

func parseSKF(first PayloadType, b []byte) (Body, error) {
	const fixed = 4
	if len(b) < fixed {
		return nil, &Error{"SKF", "header", ErrTruncated}
	}
	e := Encrypted{First: first, Fragment: binary.BigEndian.Uint16(b), Total: binary.BigEndian.Uint16(b[2:]), Data: b[fixed:]}
	if e.Fragment == 0 || e.Fragment > e.Total { // RFC 7383 §2.6
		return nil, &Error{"SKF", "fragment number", ErrValue}
	}
	return e, nil
}

func (e Encrypted) append(dst []byte) []byte {
	if e.Total != 0 {
		dst = binary.BigEndian.AppendUint16(dst, e.Fragment)
		dst = binary.BigEndian.AppendUint16(dst, e.Total)
	}
	return append(dst, e.Data...)
}

func (e Encrypted) clone() Body {
	e.Data = bytes.Clone(e.Data)
	return e
}
