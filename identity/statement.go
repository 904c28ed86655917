package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
)

// Statement is the octets of a statement that a key signs outside of AUTH (trust.md §6): its label, 00, a version, and
// what is stated. AUTH octets begin with an IKE header or a hash, never with such a label, so that neither signature can
// serve as the other.
func Statement(label string, parts ...[]byte) []byte { return labelled(label, parts...) }

func labelled(label string, parts ...[]byte) []byte {
	out := append([]byte(label), 0, 1)
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

// ErrSigner says that a key cannot sign statements.
var ErrSigner = errors.New("identity: the key cannot sign")

// SignStatement signs octets made by [Statement]: Ed25519 as it is, ECDSA and RSASSA-PSS with SHA-256. Entropy is used by
// RSA only; the others are deterministic with a nil reader.
func (s Signer) SignStatement(rand io.Reader, statement []byte) ([]byte, error) {
	if s.Private == nil {
		return nil, fmt.Errorf("%w: it is not here", ErrSigner)
	}
	digest := sha256.Sum256(statement)
	in, opts := digest[:], crypto.SignerOpts(crypto.SHA256)
	switch s.Public.Crypto().(type) {
	case ed25519.PublicKey:
		in, opts = statement, crypto.Hash(0)
	case *rsa.PublicKey:
		opts = pssOptions
	}
	sig, err := s.Private.Sign(rand, in, opts)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSigner, err)
	}
	return sig, nil
}

var pssOptions = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}

// Signed reports whether signature is that of k over a statement.
func (k PublicKey) Signed(statement, signature []byte) bool {
	digest := sha256.Sum256(statement)
	switch p := k.Crypto().(type) {
	case ed25519.PublicKey:
		return ed25519.Verify(p, statement, signature)
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(p, digest[:], signature)
	case *rsa.PublicKey:
		return rsa.VerifyPSS(p, crypto.SHA256, digest[:], signature, pssOptions) == nil
	}
	return false
}
