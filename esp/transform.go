package esp

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"fmt"
	"hash"
	"slices"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/btns-ipsec/btns/protect"
)

// transform encrypts and authenticates the octets of one direction. It keeps scratch space, hence has one user at a time.
type transform interface {
	// putIV writes the IV of a sequence number to b.
	putIV(b []byte, seq uint64)
	// seal reads header and IV from dst, encrypts plain behind them and appends the ICV.
	seal(dst, plain []byte, high uint32)
	// open checks packet and writes the plaintext to dst.
	open(dst, packet []byte, high uint32) error
}

// sizes of a suite on the wire, in octets.
type sizes struct{ iv, icv, block int }

func sizesOf(s protect.Suite) sizes {
	if s.Encr.AEAD() {
		return sizes{iv: 8, icv: 16, block: 4} // RFC 4106 §3.1, §6; RFC 7634 §2
	}
	return sizes{iv: aes.BlockSize, icv: s.Integ.ICVLen(), block: aes.BlockSize} // RFC 3602 §2, RFC 4868 §2.3
}

// trailer is padding, pad length and next header for n octets of payload (RFC 4303 §2.4).
func (z sizes) trailer(n int) int { return z.block - 1 - (n+1)%z.block + 2 }

func check(s protect.Suite, spi uint32, k protect.Keys) error {
	if err := s.Valid(); err != nil {
		return fmt.Errorf("esp: %w", err)
	}
	if len(k.Encr) != s.EncrLen() || len(k.Integ) != s.Integ.KeyLen() {
		return ErrKey
	}
	if spi < 256 {
		return ErrSPIRange
	}
	return nil
}

// joined is the keying material of one direction as one: it is kept for as long as its SA.
func joined(k protect.Keys) []byte {
	if len(k.Integ) == 0 {
		return k.Encr
	}
	return slices.Concat(k.Encr, k.Integ)
}

// newTransform makes the transform of a suite from keying material that was joined.
func newTransform(s protect.Suite, key []byte) (transform, error) {
	if !s.Encr.AEAD() {
		return newCBC(s, protect.Keys{Encr: key[:s.EncrLen()], Integ: key[s.EncrLen():]})
	}
	var (
		a    = &aead{esn: s.ESN}
		size = len(key) - s.Encr.SaltLen()
		err  error
	)
	copy(a.nonce[:], key[size:])
	if s.Encr == protect.ChaCha20Poly1305 {
		a.c, err = chacha20poly1305.New(key[:size])
	} else {
		var b cipher.Block
		if b, err = aes.NewCipher(key[:size]); err == nil {
			a.c, err = cipher.NewGCM(b)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("esp: %w", err)
	}
	return a, nil
}

// aead is AES-GCM (RFC 4106) and ChaCha20-Poly1305 (RFC 7634): nonce = salt | IV.
type aead struct {
	c     cipher.AEAD
	esn   bool
	nonce [12]byte
	long  [12]byte // AAD with ESN
}

// putIV: the sequence number is unique per key, which is all that the IV has to be (RFC 4106 §3.1).
func (a *aead) putIV(b []byte, seq uint64) { binary.BigEndian.PutUint64(b, seq) }

// aad is SPI and sequence number; with ESN all 64 bits, the high half in the middle (RFC 4106 §5).
func (a *aead) aad(packet []byte, high uint32) []byte {
	if !a.esn {
		return packet[:HeaderLen]
	}
	copy(a.long[:4], packet[:4])
	binary.BigEndian.PutUint32(a.long[4:], high)
	copy(a.long[8:], packet[4:8])
	return a.long[:]
}

func (a *aead) seal(dst, plain []byte, high uint32) {
	copy(a.nonce[4:], dst[HeaderLen:HeaderLen+8])
	a.c.Seal(dst[HeaderLen+8:HeaderLen+8], a.nonce[:], plain, a.aad(dst, high))
}

func (a *aead) open(dst, packet []byte, high uint32) error {
	copy(a.nonce[4:], packet[HeaderLen:HeaderLen+8])
	if _, err := a.c.Open(dst[:0], a.nonce[:], packet[HeaderLen+8:], a.aad(packet, high)); err != nil {
		return ErrICV
	}
	return nil
}

// cbc is AES-CBC with a truncated HMAC (RFC 3602, RFC 4868), for older peers.
type cbc struct {
	enc, dec setter
	ivs      cipher.Block
	mac      hash.Hash
	icv      int
	esn      bool
	seq      [aes.BlockSize]byte
	high     [4]byte
	sum      [sha512.Size]byte
}

func newCBC(s protect.Suite, k protect.Keys) (transform, error) {
	b, err := aes.NewCipher(k.Encr)
	if err != nil {
		return nil, fmt.Errorf("esp: %w", err)
	}
	c := &cbc{icv: s.Integ.ICVLen(), esn: s.ESN}
	switch s.Integ {
	case protect.HMACSHA256:
		c.mac = hmac.New(sha256.New, k.Integ)
	case protect.HMACSHA384:
		c.mac = hmac.New(sha512.New384, k.Integ)
	default:
		c.mac = hmac.New(sha512.New, k.Integ)
	}
	// RFC 3602 §2.3 wants IVs that nobody can foretell. A block cipher over the sequence number, under a key of its own,
	// gives such without entropy per packet (NIST SP 800-38A, appendix C).
	d := hmac.New(sha256.New, k.Encr)
	d.Write([]byte("ESP AES-CBC IV"))
	if c.ivs, err = aes.NewCipher(d.Sum(nil)); err != nil {
		return nil, fmt.Errorf("esp: %w", err)
	}
	var ok1, ok2 bool
	c.enc, ok1 = cipher.NewCBCEncrypter(b, c.seq[:]).(setter)
	c.dec, ok2 = cipher.NewCBCDecrypter(b, c.seq[:]).(setter)
	if !ok1 || !ok2 {
		return nil, fmt.Errorf("esp: %w: no AES-CBC with a settable IV", ErrKey)
	}
	return c, nil
}

type setter interface {
	cipher.BlockMode
	SetIV([]byte)
}

func (c *cbc) putIV(b []byte, seq uint64) {
	binary.BigEndian.PutUint64(c.seq[8:], seq)
	c.ivs.Encrypt(b[:aes.BlockSize], c.seq[:])
}

// tag is over the packet up to the ICV, then the high half of the sequence number (RFC 4303 §2.2.1).
func (c *cbc) tag(packet []byte, high uint32) []byte {
	c.mac.Reset()
	c.mac.Write(packet)
	if c.esn {
		binary.BigEndian.PutUint32(c.high[:], high)
		c.mac.Write(c.high[:])
	}
	return c.mac.Sum(c.sum[:0])[:c.icv]
}

func (c *cbc) seal(dst, plain []byte, high uint32) {
	const head = HeaderLen + aes.BlockSize
	end := head + len(plain)
	c.enc.SetIV(dst[HeaderLen:head])
	c.enc.CryptBlocks(dst[head:end], plain)
	copy(dst[end:end+c.icv], c.tag(dst[:end], high))
}

func (c *cbc) open(dst, packet []byte, high uint32) error {
	const head = HeaderLen + aes.BlockSize
	end := len(packet) - c.icv
	if !hmac.Equal(packet[end:], c.tag(packet[:end], high)) {
		return ErrICV
	}
	c.dec.SetIV(packet[HeaderLen:head])
	c.dec.CryptBlocks(dst[:end-head], packet[head:end])
	return nil
}
