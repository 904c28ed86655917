package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
)

// ErrPrivateKey says that octets are not a private key that btns can use. Errors that wrap it never quote the octets.
var ErrPrivateKey = errors.New("identity: unusable private key")

// NewSigner wraps a private key.
func NewSigner(private crypto.Signer) (Signer, error) {
	pub, err := FromCrypto(private.Public())
	if err != nil {
		return Signer{}, err
	}
	return Signer{Public: pub, Private: private}, nil
}

// NewEd25519 makes a key of 32 octets of entropy.
func NewEd25519(rand io.Reader) (Signer, error) {
	seed := make([]byte, ed25519.SeedSize)
	if _, err := io.ReadFull(rand, seed); err != nil {
		return Signer{}, fmt.Errorf("identity: entropy: %w", err)
	}
	return NewSigner(ed25519.NewKeyFromSeed(seed))
}

// NewECDSA makes a P-256 key for peers that cannot do Ed25519. Equal entropy gives an equal key.
func NewECDSA(rand io.Reader) (Signer, error) {
	curve := elliptic.P256()
	b := make([]byte, 32)
	// A value that is zero or not below the order comes once in 2^32; several in a row are a broken reader.
	for range 8 {
		if _, err := io.ReadFull(rand, b); err != nil {
			return Signer{}, fmt.Errorf("identity: entropy: %w", err)
		}
		if k, err := ecdsa.ParseRawPrivateKey(curve, b); err == nil {
			return NewSigner(k)
		}
	}
	return Signer{}, errors.New("identity: entropy: no usable scalar")
}

const pemPrivate = "PRIVATE KEY"

// MarshalPrivateKey writes the private key as PEM of PKCS #8, for a file that only its owner reads.
func MarshalPrivateKey(s Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(s.Private)
	if err != nil {
		return nil, fmt.Errorf("%w: %T cannot be written", ErrPrivateKey, s.Private)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemPrivate, Bytes: der}), nil
}

// ParsePrivateKey reads the first private key of a PEM text: PKCS #8, or the older forms that openssl and pki write.
func ParsePrivateKey(text []byte) (Signer, error) {
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return Signer{}, fmt.Errorf("%w: no PEM block with a private key", ErrPrivateKey)
		}
		var key any
		var err error
		switch block.Type {
		case pemPrivate:
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		case "RSA PRIVATE KEY":
			key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		case "ENCRYPTED PRIVATE KEY":
			return Signer{}, fmt.Errorf("%w: it is encrypted", ErrPrivateKey)
		default: // openssl writes EC PARAMETERS first
			continue
		}
		if err != nil {
			return Signer{}, fmt.Errorf("%w: damaged %s", ErrPrivateKey, block.Type)
		}
		s, ok := key.(crypto.Signer)
		if !ok {
			return Signer{}, fmt.Errorf("%w: %T does not sign", ErrPrivateKey, key)
		}
		return NewSigner(s)
	}
}

// ParsePublicPEM reads the first public key or certificate of a PEM text.
func ParsePublicPEM(text []byte) (PublicKey, error) {
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return PublicKey{}, fmt.Errorf("%w: no PEM block with a public key or certificate", ErrKey)
		}
		switch block.Type {
		case "PUBLIC KEY":
			return ParsePublicKey(block.Bytes)
		case "RSA PUBLIC KEY":
			return FromRSAPublicKey(block.Bytes)
		case "CERTIFICATE":
			return FromCertificate(block.Bytes)
		}
	}
}

// PublicPEM is the key as a PEM text.
func (k PublicKey) PublicPEM() string {
	if k.IsZero() {
		return ""
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: k.SPKI()}))
}
