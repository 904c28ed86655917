package suite

import (
	"crypto/rand"
	"testing"

	"github.com/btns-ipsec/btns/protect"
)

func BenchmarkGenerate(b *testing.B) {
	for _, k := range allKE {
		b.Run(k.String(), func(b *testing.B) {
			for b.Loop() {
				if _, err := k.Generate(rand.Reader); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkRespond is what a first message costs a responder in public-key work.
func BenchmarkRespond(b *testing.B) {
	for _, k := range allKE {
		b.Run(k.String(), func(b *testing.B) {
			p, err := k.Generate(rand.Reader)
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if _, _, err := k.Respond(rand.Reader, p.Public()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkDeriveKeys(b *testing.B) {
	for _, p := range []PRF{PRFSHA256, PRFSHA512} {
		b.Run(p.String(), func(b *testing.B) {
			nonce := make([]byte, 32)
			i := IKE{Cipher: Cipher{Encr: protect.AESGCM16, KeyBits: 256}, PRF: p, KE: X25519}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := DeriveKeys(i, SKEYSEED(p, nonce, nonce, nonce), nonce, nonce, 1, 2); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkSign(b *testing.B) {
	for name, k := range signers(b) {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, _, err := Sign(rand.Reader, k, Hashes(), signed); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkVerify(b *testing.B) {
	for name, k := range signers(b) {
		b.Run(name, func(b *testing.B) {
			method, data, err := Sign(rand.Reader, k, Hashes(), signed)
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if err := Verify(k.Public, Hashes(), method, data, signed); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkSK seals and opens a message of the size of an IKE_AUTH request.
func BenchmarkSK(b *testing.B) {
	for _, c := range []Cipher{
		{Encr: protect.AESGCM16, KeyBits: 128},
		{Encr: protect.ChaCha20Poly1305, KeyBits: 256},
		{protect.AESCBC, 256, protect.HMACSHA256},
	} {
		b.Run(c.String(), func(b *testing.B) {
			s := newSK(b, c)
			aad, plain := make([]byte, 32), make([]byte, 300)
			buf, out := make([]byte, 0, 512), make([]byte, 0, 512)
			b.SetBytes(int64(len(plain)))
			b.ReportAllocs()
			for b.Loop() {
				body, err := s.Seal(buf, aad, plain, rand.Reader)
				if err == nil {
					_, _, err = s.Open(out, aad, body)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
