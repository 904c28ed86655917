package suite

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"encoding/binary"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"math"
	"slices"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/btns-ipsec/btns/protect"
)

// SK protects SK and SKF payloads in one direction of one IKE SA. It counts its IVs, so there must be one per key and no
// copies of it, and it is for one goroutine. It never prints.
//
// Additional data are the octets from the start of the IKE header through the generic header of the SK payload, or
// through Total Fragments of an SKF payload, with every length final (RFC 5282 §5.1, RFC 7383 §2.5.3).
type SK struct {
	Cipher
	aead  cipher.AEAD
	salt  [4]byte
	iv    uint64 // of the next AEAD seal
	block cipher.Block
	mac   hash.Hash
}

// New makes the protection of one direction from SK_e (key, then salt) and SK_a.
func (c Cipher) New(encr, integ []byte) (*SK, error) {
	if err := c.Valid(); err != nil {
		return nil, err
	}
	if len(encr) != c.EncrLen() || len(integ) != c.IntegLen() {
		return nil, fmt.Errorf("%w: %d and %d octets for %v", ErrKeyLength, len(encr), len(integ), c)
	}
	s := &SK{Cipher: c}
	key := encr[:int(c.KeyBits)/8]
	copy(s.salt[:], encr[len(key):])
	var err error
	if c.Encr == protect.ChaCha20Poly1305 {
		s.aead, err = chacha20poly1305.New(key)
	} else {
		s.block, err = aes.NewCipher(key)
	}
	if err == nil && c.Encr == protect.AESGCM16 {
		s.aead, err = cipher.NewGCM(s.block)
	}
	if err != nil {
		return nil, fmt.Errorf("suite: %v: %w", c, err)
	}
	if !c.Encr.AEAD() {
		s.mac = hmac.New(hashOf(c.Integ), integ)
	}
	return s, nil
}

// hashOf is the hash of an HMAC-SHA2 transform.
func hashOf(i protect.Integ) func() hash.Hash {
	switch i {
	case protect.HMACSHA384:
		return PRFSHA384.hash()
	case protect.HMACSHA512:
		return PRFSHA512.hash()
	}
	return PRFSHA256.hash()
}

// Seal appends IV, ciphertext and ICV to dst; padding and pad length are added here. aad may be what dst holds; plain
// must not overlap the room behind it. CBC takes its IV from rand, AEAD counts and leaves rand alone.
func (s *SK) Seal(dst, aad, plain []byte, rand io.Reader) ([]byte, error) {
	var iv [aes.BlockSize]byte
	if s.aead != nil {
		if s.iv == math.MaxUint64 { // RFC 5282 §3.1: never the same IV twice under one key
			return nil, ErrExhausted
		}
		binary.BigEndian.PutUint64(iv[:], s.iv)
		s.iv++
	} else if _, err := io.ReadFull(rand, iv[:]); err != nil {
		return nil, fmt.Errorf("suite: entropy for an IV: %w", err)
	}
	var padding [aes.BlockSize]byte
	return s.seal(dst, aad, iv[:s.ivLen()], plain, padding[:s.padLen(len(plain))]), nil
}

// seal does the work for any IV and padding.
func (s *SK) seal(dst, aad, iv, plain, padding []byte) []byte {
	dst = slices.Grow(dst, len(iv)+len(plain)+len(padding)+1+s.icvLen())
	start := len(dst)
	dst = append(dst, iv...)
	text := len(dst)
	dst = append(append(append(dst, plain...), padding...), byte(len(padding)))
	if s.aead != nil {
		var nonce [12]byte
		copy(nonce[copy(nonce[:], s.salt[:]):], iv)
		return s.aead.Seal(dst[:text], nonce[:], dst[text:], aad)
	}
	cipher.NewCBCEncrypter(s.block, iv).CryptBlocks(dst[text:], dst[text:])
	return s.sum(dst, aad, dst[start:])
}

// sum appends the truncated HMAC of aad and body to dst.
func (s *SK) sum(dst, aad, body []byte) []byte {
	s.mac.Reset()
	s.mac.Write(aad)
	s.mac.Write(body)
	n := len(dst)
	return s.mac.Sum(dst)[:n+s.icvLen()]
}

// Open verifies body (IV, ciphertext and ICV) and decrypts it behind dst. plain is dst with the inner payloads appended, and
// must not overlap body; padding is what followed, of any content (RFC 7296 §3.14), for who wants the octets again.
//
// [ErrICV] means that nothing is known about who sent this. After [ErrPadding] the peer is known, and broken.
func (s *SK) Open(dst, aad, body []byte) (plain, padding []byte, err error) {
	n := len(body) - s.ivLen() - s.icvLen()
	if n < 1 || s.aead == nil && n%aes.BlockSize != 0 {
		return nil, nil, fmt.Errorf("%w: body of %d octets", ErrICV, len(body))
	}
	iv, text := body[:s.ivLen()], body[s.ivLen():]
	start := len(dst)
	if s.aead != nil {
		var nonce [12]byte
		copy(nonce[copy(nonce[:], s.salt[:]):], iv)
		if dst, err = s.aead.Open(dst, nonce[:], text, aad); err != nil {
			return nil, nil, ErrICV
		}
	} else {
		var icv [64]byte
		if !hmac.Equal(s.sum(icv[:0], aad, body[:s.ivLen()+n]), text[n:]) {
			return nil, nil, ErrICV
		}
		dst = append(dst, text[:n]...)
		cipher.NewCBCDecrypter(s.block, iv).CryptBlocks(dst[start:], dst[start:])
	}
	pad := int(dst[len(dst)-1])
	end := len(dst) - 1 - pad
	if end < start {
		return nil, nil, ErrPadding
	}
	return dst[:end:end], dst[end : end+pad : end+pad], nil
}

func (s *SK) String() string             { return s.Cipher.String() + " (keys redacted)" }
func (s *SK) GoString() string           { return s.String() }
func (s *SK) LogValue() slog.Value       { return slog.StringValue(s.String()) }
func (s *SK) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }
