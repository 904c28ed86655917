package wire

import "slices"

// VendorID is the Vendor ID payload (RFC 7296 §3.12).
type VendorID struct{ Data []byte }

func (v VendorID) appendTo(dst []byte) []byte { return append(dst, v.Data...) }
func (v VendorID) clone() Body                { v.Data = slices.Clone(v.Data); return v }
func (VendorID) check() error                 { return nil }
func (VendorID) items() int                   { return 0 }
