package wire

import "slices"

// CertReq is the Certificate Request payload (RFC 7296 §3.7). It is a hint, so the Authorities are not looked into.
type CertReq struct {
	Encoding    CertEncoding
	Authorities []byte // SHA-1 of the CAs' SubjectPublicKeyInfo, one after the other; empty with CertRawKey
}

func parseCertReq(b []byte) (CertReq, error) {
	if len(b) < 1 {
		return CertReq{}, &Error{"CERTREQ", "encoding", ErrTruncated}
	}
	return CertReq{CertEncoding(b[0]), b[1:]}, nil
}

func (c CertReq) appendTo(dst []byte) []byte {
	return append(append(dst, byte(c.Encoding)), c.Authorities...)
}

func (c CertReq) clone() Body { c.Authorities = slices.Clone(c.Authorities); return c }
func (CertReq) check() error  { return nil }
func (CertReq) items() int    { return 0 }
