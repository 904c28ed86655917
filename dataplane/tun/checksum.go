package tun

import (
	"encoding/binary"
	"math/bits"
)

// sum adds b to a running one's complement sum, in the machine-independent order of little-endian words: the sum is the
// same in any order (RFC 1071 §2), so it is swapped once, in fold.
func sum(b []byte, s uint64) uint64 {
	var c uint64
	for len(b) >= 64 {
		w := b[:64]
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(w), 0)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(w[8:]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(w[16:]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(w[24:]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(w[32:]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(w[40:]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(w[48:]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(w[56:]), c)
		s += c
		b = b[64:]
	}
	for len(b) >= 8 {
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(b), 0)
		s += c
		b = b[8:]
	}
	if len(b) > 0 {
		var tail uint64
		for i, x := range b {
			tail |= uint64(x) << (8 * i)
		}
		s, c = bits.Add64(s, tail, 0)
		s += c
	}
	return s
}

// fold is the 16-bit sum; its complement is the checksum.
func fold(s uint64) uint16 {
	s = s>>32 + s&0xffffffff
	s = s>>32 + s&0xffffffff
	s = s>>16 + s&0xffff
	s = s>>16 + s&0xffff
	return bits.ReverseBytes16(uint16(s))
}

// sumIPv4 sets the checksum of an IPv4 header.
func sumIPv4(h []byte) {
	h[10], h[11] = 0, 0
	binary.BigEndian.PutUint16(h[10:], ^fold(sum(h, 0)))
}

// upperSum is the place of the checksum in a protocol's header, and -1 for those that have none, or none that covers
// addresses.
func upperSum(proto byte) int {
	switch proto {
	case 6:
		return 16
	case 17:
		return 6
	case 58:
		return 2
	}
	return -1
}
