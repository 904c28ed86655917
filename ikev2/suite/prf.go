package suite

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"hash"
)

// PRF is a pseudorandom function (transform type 2).
type PRF uint16

const (
	PRFSHA256 PRF = 5 // RFC 4868
	PRFSHA384 PRF = 6
	PRFSHA512 PRF = 7
)

func (p PRF) String() string {
	switch p {
	case PRFSHA256:
		return "PRF-HMAC-SHA2-256"
	case PRFSHA384:
		return "PRF-HMAC-SHA2-384"
	case PRFSHA512:
		return "PRF-HMAC-SHA2-512"
	}
	return fmt.Sprintf("prf(%d)", uint16(p))
}

// Supported reports whether this package has the function.
func (p PRF) Supported() bool { return p.Size() != 0 }

// Size is the length of the output in octets, and with HMAC the preferred length of a key (RFC 7296 §2.13).
func (p PRF) Size() int {
	switch p {
	case PRFSHA256:
		return sha256.Size
	case PRFSHA384:
		return sha512.Size384
	case PRFSHA512:
		return sha512.Size
	}
	return 0
}

// KeyLen is the preferred length of a key in octets.
func (p PRF) KeyLen() int { return p.Size() }

func (p PRF) hash() func() hash.Hash {
	switch p {
	case PRFSHA384:
		return sha512.New384
	case PRFSHA512:
		return sha512.New
	}
	return sha256.New
}

// Sum is prf(key, parts[0] | parts[1] | ...), or nil for a function that is not supported.
func (p PRF) Sum(key []byte, parts ...[]byte) []byte {
	if !p.Supported() {
		return nil
	}
	h := hmac.New(p.hash(), key)
	for _, part := range parts {
		h.Write(part)
	}
	return h.Sum(nil)
}

// Plus is the first n octets of prf+(key, seed) (RFC 7296 §2.13).
func (p PRF) Plus(key, seed []byte, n int) ([]byte, error) {
	size := p.Size()
	if size == 0 || n < 0 || n > 255*size { // the counter is one octet
		return nil, fmt.Errorf("%w: %d octets of prf+ with %v", ErrUnsupported, n, p)
	}
	h := hmac.New(p.hash(), key)
	out := make([]byte, 0, n) // keys are kept for long: not an octet more
	last := make([]byte, 0, size)
	for i := byte(1); len(out) < n; i++ {
		h.Reset()
		h.Write(last)
		h.Write(seed)
		h.Write([]byte{i})
		last = h.Sum(last[:0])
		out = append(out, last[:min(size, n-len(out))]...)
	}
	clear(last)
	return out, nil
}
