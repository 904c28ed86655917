package suite

import (
	"crypto"
	"fmt"
)

// Hash is a hash algorithm of SIGNATURE_HASH_ALGORITHMS (RFC 7427 §7).
type Hash uint16

const (
	SHA1     Hash = 1 // never used (RFC 8247 §3.2)
	SHA256   Hash = 2
	SHA384   Hash = 3
	SHA512   Hash = 4
	Identity Hash = 5 // the signature algorithm takes the octets themselves (RFC 8420)
)

func (h Hash) String() string {
	switch h {
	case SHA1:
		return "SHA1"
	case SHA256:
		return "SHA2-256"
	case SHA384:
		return "SHA2-384"
	case SHA512:
		return "SHA2-512"
	case Identity:
		return "identity"
	}
	return fmt.Sprintf("hash(%d)", uint16(h))
}

// Hashes is what this package can verify with, hence what to announce.
func Hashes() []Hash { return []Hash{SHA256, SHA384, SHA512, Identity} }

// crypto is 0 for what is not a SHA-2.
func (h Hash) crypto() crypto.Hash {
	switch h {
	case SHA256:
		return crypto.SHA256
	case SHA384:
		return crypto.SHA384
	case SHA512:
		return crypto.SHA512
	}
	return 0
}

// digest is what a signature algorithm with this hash signs for octets.
func (h Hash) digest(octets []byte) []byte {
	if h.crypto() == 0 {
		return octets
	}
	d := h.crypto().New()
	d.Write(octets)
	return d.Sum(nil)
}
