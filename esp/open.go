package esp

import (
	"encoding/binary"

	"github.com/btns-ipsec/btns/protect"
)

// Opener is the inbound half of an SA.
type Opener struct {
	suite  protect.Suite
	key    []byte
	spi    uint32
	newest bool
	x      transform // nil until the first packet, and after Rest
	win    window
}

// NewOpener makes the inbound half of an SA with a replay window of that many packets; 0 is [DefaultWindow]. It keeps k,
// which must not change.
func NewOpener(s protect.Suite, spi uint32, k protect.Keys, size int) (*Opener, error) {
	if err := check(s, spi, k); err != nil {
		return nil, err
	}
	if size == 0 {
		size = DefaultWindow
	}
	if size < MinWindow || size > MaxWindow {
		return nil, ErrWindow
	}
	return &Opener{suite: s, spi: spi, key: joined(k), win: window{size: uint32(size), esn: s.ESN}}, nil
}

// Rest gives back what only a busy SA needs; the next packet makes it again. What was opened once stays refused, and so
// does all that is more than 64 packets late: it would have been under way for as long as the SA has been idle.
func (o *Opener) Rest() {
	o.x = nil
	o.win.rest()
}

// Awake reports whether there is anything that Rest would give back.
func (o *Opener) Awake() bool { return o.x != nil }

// HeadLen is the octets in front of the ciphertext: SPI, sequence number, IV.
func (o *Opener) HeadLen() int { return HeaderLen + sizesOf(o.suite).iv }

// PlainLen is the octets of payload and trailer in an ESP packet of n octets; what Open writes to dst.
func (o *Opener) PlainLen(n int) int {
	z := sizesOf(o.suite)
	return max(n-HeaderLen-z.iv-z.icv, 0)
}

// Newest reports whether the last packet that opened had the highest sequence number so far: only such a packet may move
// a peer (RFC 7296 §2.23).
func (o *Opener) Newest() bool { return o.newest }

// Highest is the highest sequence number that authenticated.
func (o *Opener) Highest() uint64 { return o.win.top }

// Open checks packet, writes payload and trailer to dst, and returns the length of the payload and its next header. The
// capacity of dst must hold PlainLen(len(packet)). dst is packet[HeadLen():] exactly, or does not overlap packet. After an
// error dst holds nothing of use, and in place the packet is lost.
func (o *Opener) Open(dst, packet []byte) (n int, next byte, err error) {
	z := sizesOf(o.suite)
	head := HeaderLen + z.iv
	end := len(packet) - head - z.icv
	if end < z.block || end%z.block != 0 {
		return 0, 0, ErrShort
	}
	if end > cap(dst) {
		return 0, 0, ErrBuffer
	}
	if binary.BigEndian.Uint32(packet) != o.spi {
		return 0, 0, ErrSPI
	}
	// The window is looked at before any cryptography and marked only after it: a forged number moves nothing.
	seq, ok := o.win.infer(binary.BigEndian.Uint32(packet[4:]))
	if !ok || !o.win.check(seq) {
		return 0, 0, ErrReplay
	}
	if o.x == nil {
		if o.x, err = newTransform(o.suite, o.key); err != nil {
			return 0, 0, err
		}
	}
	dst = dst[:end]
	if err := o.x.open(dst, packet, uint32(seq>>32)); err != nil {
		return 0, 0, err
	}
	o.newest = o.win.accept(seq)
	return trailer(dst)
}

// trailer reads the trailer at the end of authentic plaintext. The padding is inspected (RFC 4303 §2.4).
func trailer(plain []byte) (n int, next byte, err error) {
	pad := int(plain[len(plain)-2])
	n = len(plain) - 2 - pad
	if n < 0 {
		return 0, 0, ErrPadding
	}
	for i, b := range plain[n : n+pad] {
		if b != byte(i+1) {
			return 0, 0, ErrPadding
		}
	}
	return n, plain[len(plain)-1], nil
}
