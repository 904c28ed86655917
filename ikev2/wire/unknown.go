package wire

import "slices"

// Unknown is the body of a payload of a type that this package does not read. It is skipped unless it is critical
// (RFC 7296 §2.5).
type Unknown struct{ Data []byte }

func (u Unknown) appendTo(dst []byte) []byte { return append(dst, u.Data...) }
func (u Unknown) clone() Body                { u.Data = slices.Clone(u.Data); return u }
func (Unknown) check() error                 { return nil }
func (Unknown) items() int                   { return 0 }
