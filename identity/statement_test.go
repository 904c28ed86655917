package identity

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"testing"
)

func TestStatements(t *testing.T) {
	ed, err := NewEd25519(bytes.NewReader(bytes.Repeat([]byte{1}, 32)))
	if err != nil {
		t.Fatal(err)
	}
	p256, err := NewECDSA(bytes.NewReader(bytes.Repeat([]byte{1}, 32)))
	if err != nil {
		t.Fatal(err)
	}
	other, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := NewSigner(other)
	if err != nil {
		t.Fatal(err)
	}
	long, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	rsa2048, err := NewSigner(long)
	if err != nil {
		t.Fatal(err)
	}
	what := Statement("label", []byte("a"), []byte("b"))
	if string(what) != "label\x00\x01ab" {
		t.Fatalf("%q", what)
	}
	for _, s := range []Signer{ed, p256, p384, rsa2048} {
		t.Run(s.Public.Algorithm(), func(t *testing.T) {
			sig, err := s.SignStatement(rand.Reader, what)
			if err != nil || !s.Public.Signed(what, sig) {
				t.Fatalf("%x, %v", sig, err)
			}
			if s.Public.Signed(Statement("label", []byte("ac")), sig) {
				t.Error("another statement")
			}
			sig[len(sig)-1] ^= 1
			if s.Public.Signed(what, sig) || s.Public.Signed(what, nil) || (PublicKey{}).Signed(what, sig) {
				t.Error("another signature")
			}
		})
	}
	if _, err := (Signer{Public: ed.Public}).SignStatement(nil, what); !errors.Is(err, ErrSigner) {
		t.Fatal(err)
	}
}
