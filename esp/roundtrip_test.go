package esp

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"testing"

	"github.com/btns-ipsec/btns/protect"
)

// suites are all that package protect calls valid.
func suites() []protect.Suite {
	var out []protect.Suite
	for _, esn := range []bool{false, true} {
		for _, bits := range []uint16{128, 192, 256} {
			out = append(out, protect.Suite{Encr: protect.AESGCM16, KeyBits: bits, ESN: esn})
			for _, i := range []protect.Integ{protect.HMACSHA256, protect.HMACSHA384, protect.HMACSHA512} {
				out = append(out, protect.Suite{Encr: protect.AESCBC, KeyBits: bits, Integ: i, ESN: esn})
			}
		}
		out = append(out, protect.Suite{Encr: protect.ChaCha20Poly1305, KeyBits: 256, ESN: esn})
	}
	return out
}

func testKeys(s protect.Suite, seed byte) protect.Keys {
	k := protect.Keys{Encr: make([]byte, s.EncrLen()), Integ: make([]byte, s.Integ.KeyLen())}
	for i := range k.Encr {
		k.Encr[i] = seed + byte(i)
	}
	for i := range k.Integ {
		k.Integ[i] = seed ^ byte(3*i)
	}
	return k
}

const testSPI = 0xc0ffee01

func testPair(tb testing.TB, s protect.Suite, window int) (*Sealer, *Opener) {
	tb.Helper()
	k := testKeys(s, 7)
	seal, err := NewSealer(s, testSPI, k)
	if err != nil {
		tb.Fatal(err)
	}
	open, err := NewOpener(s, testSPI, k, window)
	if err != nil {
		tb.Fatal(err)
	}
	return seal, open
}

// sealed is a packet with payload and next header in a buffer of its own.
func sealed(tb testing.TB, s *Sealer, payload []byte, next byte) []byte {
	tb.Helper()
	b := make([]byte, len(payload)+s.Overhead())
	n := s.PutTrailer(b[s.HeadLen():], copy(b[s.HeadLen():], payload), next)
	n, err := s.Seal(b, b[s.HeadLen():s.HeadLen()+n])
	if err != nil {
		tb.Fatal(err)
	}
	return b[:n]
}

// Every payload length survives, in place and into another buffer; the trailer ends on the block (RFC 4303 §2.4) and the
// promised overhead is never exceeded.
func TestRoundTrip(t *testing.T) {
	for _, suite := range suites() {
		t.Run(suite.String(), func(t *testing.T) {
			s, o := testPair(t, suite, 0)
			for size := range 70 {
				payload := bytes.Repeat([]byte{byte(size)}, size)
				p := sealed(t, s, payload, 17)
				if len(p) > size+s.Overhead() {
					t.Fatalf("payload %d: packet of %d exceeds the overhead %d", size, len(p), s.Overhead())
				}
				plainLen := o.PlainLen(len(p))
				if plainLen%4 != 0 || plainLen != size+s.TrailerLen(size) {
					t.Fatalf("payload %d: plaintext of %d octets", size, plainLen)
				}
				dst := p[o.HeadLen():]
				if size%2 == 0 {
					dst = make([]byte, plainLen)
				}
				n, next, err := o.Open(dst, p)
				if err != nil || next != 17 || !bytes.Equal(dst[:n], payload) {
					t.Fatalf("payload %d: got %d octets, next %d, %v", size, n, next, err)
				}
				if !o.Newest() {
					t.Fatal("in order but not the newest")
				}
			}
			if o.Highest() != 70 || s.Sequence() != 70 {
				t.Fatalf("sequence %d, highest %d", s.Sequence(), o.Highest())
			}
		})
	}
}

// A single changed bit anywhere after the SPI is found, and moves no window (RFC 4303 §3.4.4).
func TestForged(t *testing.T) {
	for _, suite := range suites() {
		t.Run(suite.String(), func(t *testing.T) {
			s, o := testPair(t, suite, 0)
			p := sealed(t, s, []byte("some payload"), 6)
			dst := make([]byte, len(p))
			for i := 4; i < len(p); i++ {
				bad := bytes.Clone(p)
				bad[i] ^= 0x40
				if _, _, err := o.Open(dst, bad); !errors.Is(err, ErrICV) && !(i < 8 && errors.Is(err, ErrReplay)) {
					t.Fatalf("octet %d: %v", i, err)
				}
			}
			if o.Highest() != 0 {
				t.Fatalf("a forged packet moved the window to %d", o.Highest())
			}
			if _, _, err := o.Open(dst, p); err != nil {
				t.Fatal(err)
			}
			if _, _, err := o.Open(dst, p); !errors.Is(err, ErrReplay) {
				t.Fatalf("replay: %v", err)
			}
		})
	}
}

// Every cut of a packet is refused without a panic.
func TestTruncated(t *testing.T) {
	for _, suite := range suites() {
		s, o := testPair(t, suite, 0)
		p := sealed(t, s, make([]byte, 40), 6)
		dst := make([]byte, len(p))
		for n := range len(p) {
			if _, _, err := o.Open(dst, p[:n]); !errors.Is(err, ErrShort) && !errors.Is(err, ErrICV) {
				t.Fatalf("%v cut to %d: %v", suite, n, err)
			}
		}
	}
}

// The high half of an extended sequence number is authenticated although it is not sent (RFC 4303 §2.2.1).
func TestHighHalfIsAuthenticated(t *testing.T) {
	for _, suite := range suites() {
		if !suite.ESN {
			continue
		}
		s, o := testPair(t, suite, 0)
		s.seq = 5<<32 | 9
		p := sealed(t, s, []byte("x"), 6)
		if _, _, err := o.Open(make([]byte, len(p)), p); !errors.Is(err, ErrICV) {
			t.Fatalf("%v: another high half: %v", suite, err)
		}
		o.win.top = 5 << 32
		if _, _, err := o.Open(make([]byte, len(p)), p); err != nil {
			t.Fatalf("%v: right high half: %v", suite, err)
		}
	}
}

// Sequence numbers never wrap (RFC 4303 §3.3.3).
func TestExhaustion(t *testing.T) {
	for _, suite := range suites() {
		s, _ := testPair(t, suite, 0)
		s.seq = math.MaxUint32 - 1
		if suite.ESN {
			s.seq = math.MaxUint64 - 1
		}
		sealed(t, s, nil, 6)
		b := make([]byte, 100)
		n := s.PutTrailer(b[s.HeadLen():], 0, 6)
		for range 3 {
			if _, err := s.Seal(b, b[s.HeadLen():s.HeadLen()+n]); !errors.Is(err, ErrExhausted) || s.Left() != 0 {
				t.Fatalf("%v: %v, left %d", suite, err, s.Left())
			}
		}
	}
}

// No IV is used twice, and CBC IVs do not follow from each other (RFC 3602 §2.3, RFC 4106 §3.1).
func TestIV(t *testing.T) {
	for _, suite := range suites() {
		s, _ := testPair(t, suite, 0)
		seen := map[string]bool{}
		for range 100 {
			iv := string(sealed(t, s, nil, 6)[HeaderLen:s.HeadLen()])
			if seen[iv] {
				t.Fatalf("%v: IV %x twice", suite, iv)
			}
			seen[iv] = true
		}
	}
}

func TestBadCalls(t *testing.T) {
	suite := protect.Suite{Encr: protect.AESGCM16, KeyBits: 128}
	k := testKeys(suite, 1)
	_, errSPI := NewSealer(suite, 255, k)
	_, errKey := NewSealer(suite, testSPI, protect.Keys{Encr: k.Encr[1:]})
	_, errSuite := NewOpener(protect.Suite{}, testSPI, k, 0)
	_, errWindow := NewOpener(suite, testSPI, k, 31)
	s, o := testPair(t, suite, 0)
	_, errAlign := s.Seal(make([]byte, 100), make([]byte, 7))
	_, errRoom := s.Seal(make([]byte, 10), make([]byte, 8))
	other := sealed(t, s, nil, 6)
	other[0]++
	_, _, errOther := o.Open(make([]byte, 100), other)
	for i, c := range []struct{ got, want error }{
		{errSPI, ErrSPIRange}, {errKey, ErrKey}, {errWindow, ErrWindow}, {errAlign, ErrShort}, {errRoom, ErrBuffer}, {errOther, ErrSPI},
	} {
		if !errors.Is(c.got, c.want) {
			t.Errorf("case %d: %v, want %v", i, c.got, c.want)
		}
	}
	if errSuite == nil {
		t.Error("the zero suite was taken")
	}
	if s.Sequence() != 1 {
		t.Errorf("failed calls used up sequence numbers: %d", s.Sequence())
	}
}

// Trailers after a good ICV: contents 1, 2, 3 are inspected, any length that fits is valid (RFC 4303 §2.4).
func TestTrailer(t *testing.T) {
	cases := []struct {
		name string
		in   []byte
		n    int
		err  error
	}{
		{"none", []byte{9, 9, 0, 4}, 2, nil},
		{"two", []byte{1, 2, 2, 4}, 0, nil},
		{"long", append(append([]byte{9}, counting(255)...), 255, 4), 1, nil},
		{"not counting", []byte{2, 1, 2, 4}, 0, ErrPadding},
		{"longer than the packet", []byte{1, 2, 3, 4}, 0, ErrPadding},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			n, _, err := trailer(c.in)
			if n != c.n || !errors.Is(err, c.err) {
				t.Fatalf("got %d, %v", n, err)
			}
		})
	}
}

func counting(n int) []byte {
	out := make([]byte, n)
	for i := range out {
		out[i] = byte(i + 1)
	}
	return out
}

// Not an octet is allocated per packet (performance.md §6).
func TestAllocations(t *testing.T) {
	for _, suite := range suites() {
		s, o := testPair(t, suite, 0)
		b, dst := make([]byte, 1600), make([]byte, 1600)
		one := func() {
			n := s.PutTrailer(b[s.HeadLen():], 1400, 6)
			n, err := s.Seal(b, b[s.HeadLen():s.HeadLen()+n])
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := o.Open(dst, b[:n]); err != nil {
				t.Fatal(err)
			}
		}
		one()
		one() // HMAC keeps its state at the second use
		if a := testing.AllocsPerRun(50, one); a != 0 {
			t.Errorf("%v: %v allocations per packet", suite, a)
		}
	}
}

func BenchmarkSealOpen(b *testing.B) {
	for _, suite := range suites() {
		if suite.ESN || suite.KeyBits == 192 || suite.Integ == protect.HMACSHA384 {
			continue
		}
		for _, size := range []int{64, 1400} {
			s, o := testPair(b, suite, 0)
			buf, dst := make([]byte, 1600), make([]byte, 1600)
			b.Run(fmt.Sprintf("%v/seal/%d", suite, size), func(b *testing.B) {
				b.SetBytes(int64(size))
				for b.Loop() {
					n := s.PutTrailer(buf[s.HeadLen():], size, 6)
					_, _ = s.Seal(buf, buf[s.HeadLen():s.HeadLen()+n])
				}
			})
			b.Run(fmt.Sprintf("%v/open/%d", suite, size), func(b *testing.B) {
				p := sealed(b, s, make([]byte, size), 6)
				b.SetBytes(int64(size))
				for b.Loop() {
					o.win = window{size: DefaultWindow, ring: o.win.ring}
					clear(o.win.ring)
					_, _, _ = o.Open(dst, p)
				}
			})
		}
	}
}
