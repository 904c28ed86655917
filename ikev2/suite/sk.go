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
	key  []byte // SK_e, its salt included, then SK_a
	iv   uint64 // of the next AEAD seal
	made *ciphers
}

// ciphers are what is made of a key: large, and quickly made again.
type ciphers struct {
	aead  cipher.AEAD
	block cipher.Block
	mac   hash.Hash
}

// New makes the protection of one direction from SK_e (key, then salt) and SK_a. Both are copied.
func (c Cipher) New(encr, integ []byte) (*SK, error) {
	if err := c.check(encr, integ); err != nil {
		return nil, err
	}
	s := new(SK)
	return s, s.set(c, slices.Concat(encr, integ))
}

func (c Cipher) check(encr, integ []byte) error {
	if err := c.Valid(); err != nil {
		return err
	}
	if len(encr) != c.EncrLen() || len(integ) != c.IntegLen() {
		return fmt.Errorf("%w: %d and %d octets for %v", ErrKeyLength, len(encr), len(integ), c)
	}
	return nil
}

// set makes s of SK_e and SK_a, one behind the other. They are kept.
func (s *SK) set(c Cipher, key []byte) (err error) {
	*s = SK{Cipher: c, key: key}
	s.made, err = s.ciphers()
	return err
}

// ciphers are made of the key; an error is possible only in New.
func (s *SK) ciphers() (m *ciphers, err error) {
	encr, integ := s.key[:s.EncrLen()], s.key[s.EncrLen():]
	key := encr[:int(s.KeyBits)/8]
	m = &ciphers{}
	if s.Encr == protect.ChaCha20Poly1305 {
		m.aead, err = chacha20poly1305.New(key)
	} else {
		m.block, err = aes.NewCipher(key)
	}
	if err == nil && s.Encr == protect.AESGCM16 {
		m.aead, err = cipher.NewGCM(m.block)
	}
	if err != nil {
		return nil, fmt.Errorf("suite: %v: %w", s.Cipher, err)
	}
	if !s.Encr.AEAD() {
		m.mac = hmac.New(hashOf(s.Integ), integ)
	}
	return m, nil
}

// use returns what is made of the key, making it again after a rest.
func (s *SK) use() (*ciphers, error) {
	if s.made == nil {
		if s.key == nil {
			return nil, ErrWiped
		}
		m, err := s.ciphers()
		if err != nil {
			return nil, err
		}
		s.made = m
	}
	return s.made, nil
}

// Rest drops what can be made again, most of what s holds: the messages of an IKE SA are seldom.
func (s *SK) Rest() { s.made = nil }

// Wipe forgets the key (RFC 7296 §2.12). Nothing can be sealed or opened from then on.
func (s *SK) Wipe() {
	if s != nil {
		Wipe(s.key)
		s.key, s.made = nil, nil
	}
}

// nonce is that of an AEAD: salt, then IV (RFC 5282 §4).
func (s *SK) nonce(iv []byte) (n [12]byte) {
	copy(n[copy(n[:], s.key[int(s.KeyBits)/8:s.EncrLen()]):], iv)
	return n
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
	m, err := s.use()
	if err != nil {
		return nil, err
	}
	var iv [aes.BlockSize]byte
	if m.aead != nil {
		if s.iv == math.MaxUint64 { // RFC 5282 §3.1: never the same IV twice under one key
			return nil, ErrExhausted
		}
		binary.BigEndian.PutUint64(iv[:], s.iv)
		s.iv++
	} else if _, err := io.ReadFull(rand, iv[:]); err != nil {
		return nil, fmt.Errorf("suite: entropy for an IV: %w", err)
	}
	var padding [aes.BlockSize]byte
	return s.seal(m, dst, aad, iv[:s.ivLen()], plain, padding[:s.padLen(len(plain))]), nil
}

// seal does the work for any IV and padding.
func (s *SK) seal(m *ciphers, dst, aad, iv, plain, padding []byte) []byte {
	dst = slices.Grow(dst, len(iv)+len(plain)+len(padding)+1+s.icvLen())
	start := len(dst)
	dst = append(dst, iv...)
	text := len(dst)
	dst = append(append(append(dst, plain...), padding...), byte(len(padding)))
	if m.aead != nil {
		nonce := s.nonce(iv)
		return m.aead.Seal(dst[:text], nonce[:], dst[text:], aad)
	}
	cipher.NewCBCEncrypter(m.block, iv).CryptBlocks(dst[text:], dst[text:])
	return s.sum(m, dst, aad, dst[start:])
}

// sum appends the truncated HMAC of aad and body to dst.
func (s *SK) sum(m *ciphers, dst, aad, body []byte) []byte {
	m.mac.Reset()
	m.mac.Write(aad)
	m.mac.Write(body)
	n := len(dst)
	return m.mac.Sum(dst)[:n+s.icvLen()]
}

// Open verifies body (IV, ciphertext and ICV) and decrypts it behind dst. plain is dst with the inner payloads appended, and
// must not overlap body; padding is what followed, of any content (RFC 7296 §3.14), for who wants the octets again.
//
// [ErrICV] means that nothing is known about who sent this. After [ErrPadding] the peer is known, and broken.
func (s *SK) Open(dst, aad, body []byte) (plain, padding []byte, err error) {
	m, err := s.use()
	if err != nil {
		return nil, nil, err
	}
	n := len(body) - s.ivLen() - s.icvLen()
	if n < 1 || m.aead == nil && n%aes.BlockSize != 0 {
		return nil, nil, fmt.Errorf("%w: body of %d octets", ErrICV, len(body))
	}
	iv, text := body[:s.ivLen()], body[s.ivLen():]
	start := len(dst)
	if m.aead != nil {
		nonce := s.nonce(iv)
		if dst, err = m.aead.Open(dst, nonce[:], text, aad); err != nil {
			return nil, nil, ErrICV
		}
	} else {
		var icv [64]byte
		if !hmac.Equal(s.sum(m, icv[:0], aad, body[:s.ivLen()+n]), text[n:]) {
			return nil, nil, ErrICV
		}
		dst = append(dst, text[:n]...)
		cipher.NewCBCDecrypter(m.block, iv).CryptBlocks(dst[start:], dst[start:])
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
