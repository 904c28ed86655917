package identity

import (
	"encoding/binary"
	"strings"
)

// wordCount is how many words name a key: fewer can be ground offline (BTNS-TRUST-52).
const wordCount = 12

// Words is the fingerprint for comparison by voice: its first 132 bits as twelve words of the dictionary of RFC 2289,
// most significant first (BTNS-TRUST-51).
func (f Fingerprint) Words() string {
	out := make([]string, wordCount)
	for i := range out {
		bit := 11 * i
		// Eleven bits lie within three octets; the last word ends in octet 16 of 32, so that four can be read.
		w := binary.BigEndian.Uint32(f[bit/8:]) << (bit % 8) >> 21
		out[i] = dictionary[w]
	}
	return strings.Join(out, " ")
}
