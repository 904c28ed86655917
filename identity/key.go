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

const (
	minRSABits = 2048 // shorter moduli are within reach of a patient attacker: no identity rests on them
	maxRSABits = 8192 // longer ones only cost us work

	maxSPKI = 2048 // octets; RSA-8192 with RSASSA-PSS parameters needs about 1100
)

// PublicKey is a peer's key in canonical form. It is comparable; the zero value is no key.
type PublicKey struct{ spki string }

// ParsePublicKey reads a DER SubjectPublicKeyInfo and brings it to canonical form (BTNS-CORE-33): rsaEncryption with
// NULL parameters also for an RSASSA-PSS key (RFC 4055 §1.2), an uncompressed point also for a compressed one.
func ParsePublicKey(spki []byte) (PublicKey, error) {
	if isEd25519(spki) {
		return PublicKey{string(spki)}, nil
	}
	pub, err := parseSPKI(spki)
	if err != nil {
		return PublicKey{}, err
	}
	return FromCrypto(pub)
}

// FromRSAPublicKey reads a DER RSAPublicKey (PKCS #1), the raw key of certificate encoding 11 (BTNS-CORE-39).
func FromRSAPublicKey(der []byte) (PublicKey, error) {
	if len(der) > maxSPKI {
		return PublicKey{}, fmt.Errorf("%w: %d octets", ErrKey, len(der))
	}
	pub, err := x509.ParsePKCS1PublicKey(der)
	if err != nil {
		return PublicKey{}, fmt.Errorf("%w: %w", ErrKey, err)
	}
	return FromCrypto(pub)
}

// FromCrypto makes a PublicKey of an ed25519.PublicKey, *ecdsa.PublicKey (P-256, P-384) or *rsa.PublicKey (2048 to 8192
// bits).
func FromCrypto(pub crypto.PublicKey) (PublicKey, error) {
	if err := usable(pub); err != nil {
		return PublicKey{}, err
	}
	der, err := canonical(pub)
	if err != nil {
		return PublicKey{}, err
	}
	return PublicKey{string(der)}, nil
}

// headEd25519 begins every SubjectPublicKeyInfo of an Ed25519 key; the key follows (RFC 8410 §4, appendix A). Each handshake
// needs some, and reading the DER in full takes longer than many a check of a message.
const headEd25519 = "\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00"

func isEd25519[T string | []byte](spki T) bool {
	return len(spki) == len(headEd25519)+ed25519.PublicKeySize && string(spki[:len(headEd25519)]) == headEd25519
}

func usable(pub crypto.PublicKey) error {
	switch k := pub.(type) {
	case ed25519.PublicKey:
		if len(k) != ed25519.PublicKeySize {
			return fmt.Errorf("%w: Ed25519 of %d octets", ErrKey, len(k))
		}
	case *ecdsa.PublicKey:
		if k == nil || k.Curve == nil {
			return fmt.Errorf("%w: no curve", ErrKey)
		}
		if k.Curve != elliptic.P256() && k.Curve != elliptic.P384() {
			return fmt.Errorf("%w: curve %s", ErrKey, k.Params().Name)
		}
	case *rsa.PublicKey:
		if k == nil || k.N == nil {
			return fmt.Errorf("%w: no modulus", ErrKey)
		}
		if n := k.N.BitLen(); n < minRSABits || n > maxRSABits {
			return fmt.Errorf("%w: RSA of %d bits", ErrKey, n)
		}
		if k.E < 3 || k.E%2 == 0 || k.N.Bit(0) == 0 {
			return fmt.Errorf("%w: RSA with an even modulus or exponent %d", ErrKey, k.E)
		}
	default:
		return fmt.Errorf("%w: %T", ErrKey, pub)
	}
	return nil
}

// canonical is the one encoding that fingerprints are made of.
func canonical(pub crypto.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	return der, nil
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

// String is the fingerprint, or "no key".
func (k PublicKey) String() string {
	if k.IsZero() {
		return "no key"
	}
	return k.Fingerprint().String()
}

// Algorithm names the kind of key: "Ed25519", "ECDSA P-256", "RSA 3072"; empty for no key.
func (k PublicKey) Algorithm() string {
	switch p := k.Crypto().(type) {
	case ed25519.PublicKey:
		return "Ed25519"
	case *ecdsa.PublicKey:
		return "ECDSA " + p.Params().Name
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA %d", p.N.BitLen())
	}
	return ""
}

// Crypto returns the key as the standard library has it, or nil for no key.
func (k PublicKey) Crypto() crypto.PublicKey {
	if k.IsZero() {
		return nil
	}
	if isEd25519(k.spki) {
		return ed25519.PublicKey(k.spki[len(headEd25519):])
	}
	pub, err := x509.ParsePKIXPublicKey([]byte(k.spki))
	if err != nil {
		return nil
	}
	return pub
}
