package suite

import (
	"bytes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"testing"

	"github.com/btns-ipsec/btns/protect"
)

func allCiphers() []Cipher {
	ciphers := []Cipher{{Encr: protect.ChaCha20Poly1305, KeyBits: 256}}
	for _, bits := range []uint16{128, 192, 256} {
		ciphers = append(ciphers, Cipher{Encr: protect.AESGCM16, KeyBits: bits})
		for _, i := range []protect.Integ{protect.HMACSHA256, protect.HMACSHA384, protect.HMACSHA512} {
			ciphers = append(ciphers, Cipher{protect.AESCBC, bits, i})
		}
	}
	return ciphers
}

func newSK(t testing.TB, c Cipher) *SK {
	t.Helper()
	var key counter
	encr, integ := make([]byte, c.EncrLen()), make([]byte, c.IntegLen())
	_, _ = key.Read(encr)
	_, _ = key.Read(integ)
	s, err := c.New(encr, integ)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// RFC 7634 appendix B: a whole message.
func TestSKVector(t *testing.T) {
	type vector struct {
		AAD, IV, Key, Salt, Plaintext, Message octs
		Encr                                   protect.Encr
	}
	for _, v := range load[vector](t, "ike-sk-payload.json") {
		s, err := Cipher{Encr: v.Encr, KeyBits: 256}.New(append(v.Key, v.Salt...), nil)
		if err != nil {
			t.Fatal(err)
		}
		body := v.Message[len(v.AAD):]
		plain, padding, err := s.Open(nil, v.AAD, body)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "plaintext", append(plain, byte(len(padding))), v.Plaintext)
		same(t, "message", s.seal(s.made, v.AAD, v.AAD, v.IV, plain, padding), v.Message)
		s.iv = binary.BigEndian.Uint64(v.IV)
		sealed, err := s.Seal(bytes.Clone(v.AAD), v.AAD, plain, nil)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "sealed message", sealed, v.Message)
	}
}

// Wycheproof on the AEADs as they are used in SK.
func TestAEADVectors(t *testing.T) {
	type vector struct {
		ID                         int
		Key, Nonce, AAD, Plaintext octs
		CiphertextTag              octs `json:"ciphertext_tag"`
		Valid                      bool
	}
	for file, encr := range map[string]protect.Encr{
		"aead-aes-gcm.json": protect.AESGCM16, "aead-chacha20poly1305.json": protect.ChaCha20Poly1305,
	} {
		t.Run(file, func(t *testing.T) {
			for _, v := range load[vector](t, file) {
				s, err := Cipher{Encr: encr, KeyBits: uint16(8 * len(v.Key))}.New(append(v.Key, v.Nonce[:4]...), nil)
				if err != nil {
					t.Fatal(v.ID, err)
				}
				// SK ends its plaintext with a pad length, a vector with anything: go by that octet.
				body := append(bytes.Clone(v.Nonce[4:]), v.CiphertextTag...)
				plain, padding, err := s.Open(nil, v.AAD, body)
				n := len(v.Plaintext)
				switch {
				case n == 0 || !v.Valid:
					if !errors.Is(err, ErrICV) {
						t.Errorf("%d: %v", v.ID, err)
					}
				case int(v.Plaintext[n-1]) >= n:
					if !errors.Is(err, ErrPadding) {
						t.Errorf("%d: %v", v.ID, err)
					}
				case err != nil:
					t.Errorf("%d: %v", v.ID, err)
				default:
					same(t, fmt.Sprint(v.ID), append(append(plain, padding...), byte(len(padding))), v.Plaintext)
					same(t, fmt.Sprint(v.ID, " sealed"), s.seal(s.made, nil, v.AAD, v.Nonce[4:], plain, padding), body)
				}
			}
		})
	}
}

// RFC 7296 §3.14: the pad length octet is always there, CBC fills its block, AEAD pads not (RFC 5282 §3).
func TestSealLengths(t *testing.T) {
	for _, c := range allCiphers() {
		s := newSK(t, c)
		var rand counter
		for n := range 70 {
			plain := bytes.Repeat([]byte{3}, n)
			body, err := s.Seal(nil, []byte("header"), plain, &rand)
			if err != nil {
				t.Fatal(err)
			}
			if len(body) != n+c.Overhead(n) {
				t.Errorf("%v: %d octets make %d, Overhead says %d more", c, n, len(body), c.Overhead(n))
			}
			if most := c.MaxPlain(len(body)); most < n || most+c.Overhead(most) > len(body) ||
				most+1+c.Overhead(most+1) <= len(body) {
				t.Errorf("%v: MaxPlain(%d) = %d", c, len(body), most)
			}
			got, padding, err := s.Open([]byte("kept"), []byte("header"), body)
			if err != nil {
				t.Fatalf("%v: %d octets: %v", c, n, err)
			}
			same(t, c.String(), got, append([]byte("kept"), plain...))
			if len(padding) != c.padLen(n) || c.Encr.AEAD() && len(padding) != 0 {
				t.Errorf("%v: %d octets of padding for %d", c, len(padding), n)
			}
		}
		for n := range c.Overhead(0) {
			if c.MaxPlain(n) != -1 {
				t.Errorf("%v: MaxPlain(%d) = %d", c, n, c.MaxPlain(n))
			}
		}
	}
}

// The message before the payload may lie in the same buffer, with and without room behind it.
func TestSealBehindHeader(t *testing.T) {
	for _, c := range allCiphers() {
		for _, room := range []int{0, 20, 200} {
			s := newSK(t, c)
			var rand counter
			message := make([]byte, 32, 32+room)
			out, err := s.Seal(message, message, []byte("payloads"), &rand)
			if err != nil {
				t.Fatal(err)
			}
			if plain, _, err := s.Open(nil, out[:32], out[32:]); err != nil || string(plain) != "payloads" {
				t.Errorf("%v, room %d: %q, %v", c, room, plain, err)
			}
		}
	}
}

// Not one bit of header, IV, ciphertext and ICV can change, and no length.
func TestOpenRejects(t *testing.T) {
	for _, c := range allCiphers() {
		s := newSK(t, c)
		var rand counter
		aad := []byte("from the IKE header on")
		body, err := s.Seal(nil, aad, []byte("inner payloads"), &rand)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 8 * len(body) {
			bad := bytes.Clone(body)
			bad[i/8] ^= 1 << (i % 8)
			if _, _, err := s.Open(nil, aad, bad); !errors.Is(err, ErrICV) {
				t.Fatalf("%v: bit %d: %v", c, i, err)
			}
		}
		for n := range body {
			if _, _, err := s.Open(nil, aad, body[:n]); !errors.Is(err, ErrICV) {
				t.Fatalf("%v: cut to %d octets: %v", c, n, err)
			}
		}
		if _, _, err := s.Open(nil, aad[1:], body); !errors.Is(err, ErrICV) {
			t.Errorf("%v: other header: %v", c, err)
		}
	}
}

// RFC 7296 §3.14: any padding is fine, a pad length beyond the start is not.
func TestPadding(t *testing.T) {
	for _, c := range allCiphers() {
		s := newSK(t, c)
		iv := make([]byte, c.ivLen())
		plain := []byte("01234567890123456789012") // 23 and 8 and 1: two blocks
		for _, padding := range [][]byte{[]byte("anything"), bytes.Repeat([]byte{9}, 8+13*16)} {
			got, pad, err := s.Open(nil, nil, s.seal(s.made, nil, nil, iv, plain, padding))
			if err != nil {
				t.Fatalf("%v: %v", c, err)
			}
			same(t, "plain", got, plain)
			same(t, "padding", pad, padding)
		}
		body := s.sealRaw(iv, bytes.Repeat([]byte{200}, 32))
		if _, _, err := s.Open(nil, nil, body); !errors.Is(err, ErrPadding) {
			t.Errorf("%v: pad length 200 in 32 octets: %v", c, err)
		}
		body = s.sealRaw(iv, append(make([]byte, 31), 31))
		if got, pad, err := s.Open(nil, nil, body); err != nil || len(got) != 0 || len(pad) != 31 {
			t.Errorf("%v: nothing but padding: %d, %d, %v", c, len(got), len(pad), err)
		}
	}
}

// sealRaw seals octets of which the last is the pad length, whatever it says.
func (s *SK) sealRaw(iv, text []byte) []byte {
	m := s.made
	if m.aead != nil {
		nonce := s.nonce(iv)
		return m.aead.Seal(bytes.Clone(iv), nonce[:], text, nil)
	}
	out := append(bytes.Clone(iv), text...)
	cipher.NewCBCEncrypter(m.block, iv).CryptBlocks(out[len(iv):], out[len(iv):])
	return s.sum(m, out, nil, out)
}

// RFC 5282 §3.1: no IV twice under one key.
func TestIVs(t *testing.T) {
	for _, c := range allCiphers() {
		s := newSK(t, c)
		var rand counter
		seen := map[string]bool{}
		for range 16 { // after that counter repeats itself
			body, err := s.Seal(nil, nil, nil, &rand)
			if err != nil {
				t.Fatal(err)
			}
			if iv := string(body[:c.ivLen()]); seen[iv] {
				t.Errorf("%v: IV %x again", c, iv)
			} else {
				seen[iv] = true
			}
		}
	}
	s := newSK(t, Cipher{Encr: protect.AESGCM16, KeyBits: 128})
	s.iv = math.MaxUint64
	if _, err := s.Seal(nil, nil, nil, nil); !errors.Is(err, ErrExhausted) {
		t.Errorf("after the last IV: %v", err)
	}
	s = newSK(t, Cipher{protect.AESCBC, 128, protect.HMACSHA256})
	if _, err := s.Seal(nil, nil, nil, bytes.NewReader(nil)); !errors.Is(err, io.EOF) {
		t.Errorf("without entropy: %v", err)
	}
}

// After a rest the IVs go on where they were; after a wipe there is nothing left to use.
func TestRest(t *testing.T) {
	for _, c := range allCiphers() {
		s, other := newSK(t, c), newSK(t, c)
		var rand counter
		seen := map[string]bool{}
		for i := range 4 {
			body, err := s.Seal(nil, nil, []byte("payloads"), &rand)
			if err != nil {
				t.Fatal(err)
			}
			if iv := string(body[:c.ivLen()]); seen[iv] {
				t.Errorf("%v: IV %x again after %d rests", c, iv, i)
			} else {
				seen[iv] = true
			}
			if plain, _, err := other.Open(nil, nil, body); err != nil || string(plain) != "payloads" {
				t.Errorf("%v: after %d rests: %q, %v", c, i, plain, err)
			}
			s.Rest()
			other.Rest()
		}
		key := s.key
		s.Wipe()
		if !bytes.Equal(key, make([]byte, len(key))) {
			t.Errorf("%v: the key is still there", c)
		}
		if _, err := s.Seal(nil, nil, nil, &rand); !errors.Is(err, ErrWiped) {
			t.Errorf("%v: sealed with a wiped key: %v", c, err)
		}
		if _, _, err := s.Open(nil, nil, make([]byte, 99)); !errors.Is(err, ErrWiped) {
			t.Errorf("%v: opened with a wiped key: %v", c, err)
		}
	}
}

func TestNewRejects(t *testing.T) {
	for _, c := range allCiphers() {
		e, i := make([]byte, c.EncrLen()), make([]byte, c.IntegLen())
		if _, err := c.New(e[1:], i); !errors.Is(err, ErrKeyLength) {
			t.Errorf("%v: short key: %v", c, err)
		}
		if _, err := c.New(e, make([]byte, len(i)+1)); !errors.Is(err, ErrKeyLength) {
			t.Errorf("%v: long integrity key: %v", c, err)
		}
		if _, err := new(Protection).Set(c, Keys{Ei: e, Ai: i, Er: e, Ar: i}); err != nil {
			t.Errorf("%v: %v", c, err)
		}
		if _, err := new(Protection).Set(c, Keys{Ei: e, Ai: i}); !errors.Is(err, ErrKeyLength) {
			t.Errorf("%v: half the keys: %v", c, err)
		}
	}
	for _, c := range []Cipher{{}, {Encr: 11}, {Encr: 3, KeyBits: 192, Integ: 12}, {Encr: 20, KeyBits: 100}} {
		if _, err := c.New(nil, nil); !errors.Is(err, ErrUnsupported) {
			t.Errorf("%v: %v", c, err)
		}
	}
}

// FuzzOpen: nothing that was not sealed opens, and nothing panics.
func FuzzOpen(f *testing.F) {
	f.Add([]byte("header"), make([]byte, 64))
	var sks []*SK
	for _, c := range allCiphers() {
		sks = append(sks, newSK(f, c))
	}
	f.Fuzz(func(t *testing.T, aad, body []byte) {
		for _, s := range sks {
			if _, _, err := s.Open(nil, aad, body); !errors.Is(err, ErrICV) {
				t.Errorf("%v: %v", s, err)
			}
		}
	})
}
