package esp

import (
	"bytes"
	"testing"
)

// FuzzOpen: whatever comes in, nothing panics, and nothing opens but what was sealed, once.
func FuzzOpen(f *testing.F) {
	all := suites()
	for i, suite := range all {
		s, _ := testPair(f, suite, 0)
		f.Add(uint8(i), sealed(f, s, []byte("0123456789"), 6))
	}
	f.Add(uint8(0), []byte{})
	f.Fuzz(func(t *testing.T, which uint8, packet []byte) {
		suite := all[int(which)%len(all)]
		s, o := testPair(t, suite, 0)
		genuine := sealed(t, s, []byte("0123456789"), 6)
		in := bytes.Clone(packet)
		dst := make([]byte, len(packet))
		n, next, err := o.Open(dst, in)
		if !bytes.Equal(in, packet) {
			t.Fatal("the packet was changed")
		}
		if err == nil && !bytes.Equal(packet, genuine) {
			t.Fatalf("opened %d octets of %d that were never sealed", n, next)
		}
		if err == nil {
			if _, _, err := o.Open(dst, in); err == nil {
				t.Fatal("opened twice")
			}
		}
	})
}

// FuzzTrailer: a trailer is never longer than the plaintext.
func FuzzTrailer(f *testing.F) {
	f.Add([]byte{1, 2, 2, 4})
	f.Fuzz(func(t *testing.T, plain []byte) {
		if len(plain) < 2 {
			return
		}
		if n, _, err := trailer(plain); err == nil && (n < 0 || n+2 > len(plain)) {
			t.Fatalf("%d octets of %d", n, len(plain))
		}
	})
}
