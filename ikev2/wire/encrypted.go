package wire

import (
	"encoding/binary"
	"slices"
)

// Encrypted is the Encrypted payload SK (RFC 7296 §3.14) or, with fragment numbers, SKF (RFC 7383 §2.5).
type Encrypted struct {
	First         PayloadType // the first payload inside; 0 in an empty message and in fragments after the first
	Number, Total uint16      // SKF only: this is fragment Number of 1..Total
	Data          []byte      // IV, ciphertext, ICV
}

func parseEncrypted(t, first PayloadType, b []byte) (Body, error) {
	e := Encrypted{First: first}
	if t == PayloadSKF {
		const fixed = 4
		if len(b) < fixed {
			return nil, &Error{"SKF", "fragment number", ErrTruncated}
		}
		e.Number, e.Total = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
		if e.Number == 0 || e.Number > e.Total { // RFC 7383 §2.6
			return nil, &Error{"SKF", "fragment number", ErrRange}
		}
		b = b[fixed:]
	}
	e.Data = b[:len(b):len(b)]
	return e, nil
}

// appendFragment appends what SKF has before the fields of SK.
func (e Encrypted) appendFragment(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint16(dst, e.Number)
	return binary.BigEndian.AppendUint16(dst, e.Total)
}

func (e Encrypted) appendTo(dst []byte) []byte { return append(dst, e.Data...) }
func (e Encrypted) clone() Body                { e.Data = slices.Clone(e.Data); return e }
func (Encrypted) check() error                 { return nil }
func (Encrypted) items() int                   { return 0 }
