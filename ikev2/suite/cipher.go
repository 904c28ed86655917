package suite

import (
	"crypto/aes"
	"fmt"

	"github.com/btns-ipsec/btns/protect"
)

// Cipher is what protects SK payloads.
type Cipher struct {
	Encr    protect.Encr
	KeyBits uint16        // 256 for ChaCha20-Poly1305 although it is not on the wire there
	Integ   protect.Integ // NoInteg exactly when Encr is AEAD
}

// Valid reports why c cannot be used, or nil.
func (c Cipher) Valid() error {
	if err := c.suite().Valid(); err != nil {
		return fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	return nil
}

func (c Cipher) suite() protect.Suite {
	return protect.Suite{Encr: c.Encr, KeyBits: c.KeyBits, Integ: c.Integ}
}

func (c Cipher) String() string { return c.suite().String() }

// EncrLen is the length of SK_ei and SK_er in octets: key, then salt (RFC 5282 §7.1).
func (c Cipher) EncrLen() int { return c.suite().EncrLen() }

// IntegLen is the length of SK_ai and SK_ar in octets; 0 with AEAD.
func (c Cipher) IntegLen() int { return c.Integ.KeyLen() }

func (c Cipher) ivLen() int {
	if c.Encr.AEAD() {
		return 8
	}
	return aes.BlockSize
}

func (c Cipher) icvLen() int {
	if c.Encr.AEAD() {
		return 16
	}
	return c.Integ.ICVLen()
}

// padLen is the padding for n octets of plaintext: none with AEAD (RFC 5282 §3), else the least that fills the last
// block together with the pad length octet.
func (c Cipher) padLen(n int) int {
	if c.Encr.AEAD() {
		return 0
	}
	return aes.BlockSize - 1 - n%aes.BlockSize
}

// Overhead is how much longer than its n octets of plaintext the body of an SK payload is: IV, padding, pad length, ICV.
func (c Cipher) Overhead(n int) int { return c.ivLen() + c.padLen(n) + 1 + c.icvLen() }

// MaxPlain is the longest plaintext whose body has at most n octets, or -1 if there is none.
func (c Cipher) MaxPlain(n int) int {
	n -= c.ivLen() + c.icvLen()
	if !c.Encr.AEAD() && n > 0 {
		n -= n % aes.BlockSize
	}
	return max(n-1, -1)
}
