package wire

import "slices"

// Nonce is the Nonce payload (RFC 7296 §3.9).
type Nonce struct{ Data []byte }

func parseNonce(b []byte) (Nonce, error) {
	n := Nonce{b}
	return n, n.check()
}

// RFC 7296 §3.9: 16 to 256 octets.
func (n Nonce) check() error {
	if len(n.Data) < 16 || len(n.Data) > 256 {
		return &Error{"Nonce", "nonce data", ErrLength}
	}
	return nil
}

func (n Nonce) appendTo(dst []byte) []byte { return append(dst, n.Data...) }
func (n Nonce) clone() Body                { n.Data = slices.Clone(n.Data); return n }
func (Nonce) items() int                   { return 0 }
