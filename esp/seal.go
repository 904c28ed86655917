package esp

import (
	"encoding/binary"
	"math"

	"github.com/btns-ipsec/btns/protect"
)

// Sealer is the outbound half of an SA.
type Sealer struct {
	seq   uint64    // of the last packet
	x     transform // nil until the first packet, and after Rest
	key   []byte
	suite protect.Suite
	spi   uint32
}

// NewSealer makes the outbound half of an SA. It keeps k, which must not change.
func NewSealer(s protect.Suite, spi uint32, k protect.Keys) (*Sealer, error) {
	if err := check(s, spi, k); err != nil {
		return nil, err
	}
	return &Sealer{suite: s, spi: spi, key: joined(k)}, nil
}

// Rest gives back what only a busy SA needs; the next packet makes it again.
func (s *Sealer) Rest() { s.x = nil }

// Awake reports whether there is anything that Rest would give back.
func (s *Sealer) Awake() bool { return s.x != nil }

// Overhead is the most by which a payload grows, in octets: header, IV, longest padding, pad length, next header, ICV.
func (s *Sealer) Overhead() int {
	z := sizesOf(s.suite)
	return HeaderLen + z.iv + z.block - 1 + 2 + z.icv
}

// HeadLen is the octets in front of the ciphertext: SPI, sequence number, IV.
func (s *Sealer) HeadLen() int { return HeaderLen + sizesOf(s.suite).iv }

// TrailerLen is the octets of padding, pad length and next header behind a payload of n octets.
func (s *Sealer) TrailerLen(n int) int { return sizesOf(s.suite).trailer(n) }

// MaxPayload is the longest payload whose ESP packet has at most n octets; 0 if there is none.
func (s *Sealer) MaxPayload(n int) int {
	z := sizesOf(s.suite)
	return max((n-HeaderLen-z.iv-z.icv)/z.block*z.block-2, 0)
}

// Sequence is the number of the last packet sealed; 0 before the first.
func (s *Sealer) Sequence() uint64 { return s.seq }

// Left is how many more packets can be sealed.
func (s *Sealer) Left() uint64 { return s.limit() - s.seq }

func (s *Sealer) limit() uint64 {
	if s.suite.ESN {
		return math.MaxUint64
	}
	return math.MaxUint32
}

// PutTrailer writes the trailer of a payload of n octets behind it at b[n:] and returns the length of both, or 0 if b has
// not the capacity. The padding is 1, 2, 3, ... (RFC 4303 §2.4).
func (s *Sealer) PutTrailer(b []byte, n int, next byte) int {
	end := n + s.TrailerLen(n)
	if n < 0 || end > cap(b) {
		return 0
	}
	b = b[:end]
	for i := n; i < end-2; i++ {
		b[i] = byte(i - n + 1)
	}
	b[end-2], b[end-1] = byte(end-2-n), next
	return end
}

// Seal writes the ESP packet of plain, which ends in the trailer, to dst and returns its length. The capacity of dst must
// hold it. plain is dst[HeadLen():] exactly, or does not overlap dst.
func (s *Sealer) Seal(dst, plain []byte) (int, error) {
	z := sizesOf(s.suite)
	head := HeaderLen + z.iv
	end := head + len(plain) + z.icv
	if len(plain) < 2 || len(plain)%z.block != 0 {
		return 0, ErrShort
	}
	if end > cap(dst) {
		return 0, ErrBuffer
	}
	if s.seq >= s.limit() {
		return 0, ErrExhausted
	}
	if s.x == nil {
		x, err := newTransform(s.suite, s.key)
		if err != nil {
			return 0, err
		}
		s.x = x
	}
	s.seq++
	dst = dst[:end]
	binary.BigEndian.PutUint32(dst, s.spi)
	binary.BigEndian.PutUint32(dst[4:], uint32(s.seq))
	s.x.putIV(dst[HeaderLen:head], s.seq)
	s.x.seal(dst, plain, uint32(s.seq>>32))
	return end, nil
}
