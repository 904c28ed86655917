package wire

import "slices"

// Cert is the Certificate payload (RFC 7296 §3.6).
type Cert struct {
	Encoding CertEncoding
	Data     []byte
}

func parseCert(b []byte) (Cert, error) {
	if len(b) < 1 {
		return Cert{}, &Error{"CERT", "encoding", ErrTruncated}
	}
	return Cert{CertEncoding(b[0]), b[1:]}, nil
}

func (c Cert) appendTo(dst []byte) []byte { return append(append(dst, byte(c.Encoding)), c.Data...) }
func (c Cert) clone() Body                { c.Data = slices.Clone(c.Data); return c }
func (Cert) check() error                 { return nil }
func (Cert) items() int                   { return 0 }
