package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
)

// ErrKey says that octets are not a public key that btns accepts.
var ErrKey = errors.New("identity: unusable public key")

// PublicKey is a peer's key in canonical form. It is comparable; the zero value is no key.
type PublicKey struct{ spki string }

// ParsePublicKey reads a DER SubjectPublicKeyInfo and brings it to canonical form (BTNS-CORE-33).
func ParsePublicKey(spki []byte) (PublicKey, error) {
	pub, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return PublicKey{}, fmt.Errorf("%w: %w", ErrKey, err)
	}
	return FromCrypto(pub)
}

// FromCrypto makes a PublicKey of an ed25519.PublicKey, *ecdsa.PublicKey (P-256, P-384) or *rsa.PublicKey.
func FromCrypto(pub crypto.PublicKey) (PublicKey, error) {
	switch k := pub.(type) {
	case ed25519.PublicKey:
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() && k.Curve != elliptic.P384() {
			return PublicKey{}, fmt.Errorf("%w: curve %s", ErrKey, k.Params().Name)
		}
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < 2048 || n > 8192 {
			return PublicKey{}, fmt.Errorf("%w: RSA of %d bits", ErrKey, n)
		}
	default:
		return PublicKey{}, fmt.Errorf("%w: %T", ErrKey, pub)
	}
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return PublicKey{}, fmt.Errorf("%w: %w", ErrKey, err)
	}
	return PublicKey{string(der)}, nil
}

// IsZero reports whether k is no key.
func (k PublicKey) IsZero() bool { return k.spki == "" }

// SPKI returns the canonical SubjectPublicKeyInfo, in a slice of the caller's own.
func (k PublicKey) SPKI() []byte { return []byte(k.spki) }

// Fingerprint is the name of the key; zero for no key.
func (k PublicKey) Fingerprint() Fingerprint {
	if k.IsZero() {
		return Fingerprint{}
	}
	return sha256.Sum256([]byte(k.spki))
}

// Crypto returns the key as the standard library has it, or nil for no key.
func (k PublicKey) Crypto() crypto.PublicKey {
	if k.IsZero() {
		return nil
	}
	pub, err := x509.ParsePKIXPublicKey([]byte(k.spki))
	if err != nil {
		return nil
	}
	return pub
}
