package suite

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"math/big"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	der "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/btns-ipsec/btns/identity"
)

// AUTH methods that sign (RFC 7296 §3.8, RFC 4754, RFC 7427).
const (
	methodRSA       uint8 = 1
	methodECDSA256  uint8 = 9
	methodECDSA384  uint8 = 10
	methodSignature uint8 = 14
)

// Sign makes the AUTH data of a signature. With peerHashes, the hashes that the peer announced when we announced some
// too, the method is 14 with one of them (RFC 7427 §4); without, it is one of the older methods, which Ed25519 has not.
//
// ECDSA is randomised when rand is not nil; RSASSA-PSS needs rand. The signer may run anywhere, and take its time.
func Sign(rand io.Reader, s identity.Signer, peerHashes []Hash, octets []byte) (method uint8, data []byte, err error) {
	a, method, err := choose(s.Public.Crypto(), peerHashes)
	if err != nil {
		return 0, nil, err
	}
	if s.Private == nil || a.family == famPSS && rand == nil {
		return 0, nil, errors.New("suite: no private key, or no entropy for it")
	}
	sig, err := s.Private.Sign(rand, a.hash.digest(octets), a.opts())
	if err != nil {
		return 0, nil, fmt.Errorf("suite: sign: %w", err)
	}
	switch method {
	case methodECDSA256, methodECDSA384:
		data, err = rawECDSA(sig, a.hash.crypto().Size()) // P-256 goes with SHA2-256, P-384 with SHA2-384
	case methodSignature:
		data, err = a.appendDER([]byte{0})
		if err == nil {
			data[0] = byte(len(data) - 1)
			data = append(data, sig...)
		}
	default:
		data = sig
	}
	return method, data, err
}

// opts is a for a crypto.Signer.
func (a algorithm) opts() crypto.SignerOpts {
	if a.family == famPSS {
		return &rsa.PSSOptions{SaltLength: a.salt, Hash: a.hash.crypto()}
	}
	return a.hash.crypto()
}

// choose finds the algorithm to sign with.
func choose(key crypto.PublicKey, peerHashes []Hash) (algorithm, uint8, error) {
	old := len(peerHashes) == 0
	switch k := key.(type) {
	case ed25519.PublicKey:
		if slices.Contains(peerHashes, Identity) { // RFC 8420 §2
			return algorithm{family: famEd25519, hash: Identity}, methodSignature, nil
		}
	case *ecdsa.PublicKey:
		h, method := SHA256, methodECDSA256
		if k.Curve.Params().BitSize == 384 {
			h, method = SHA384, methodECDSA384
		}
		if old {
			return algorithm{family: famECDSA, hash: h}, method, nil
		}
		if h := firstOf(peerHashes, h, SHA256, SHA384, SHA512); h != 0 {
			return algorithm{family: famECDSA, hash: h}, methodSignature, nil
		}
	case *rsa.PublicKey:
		if old {
			return algorithm{family: famPKCS1, hash: SHA256}, methodRSA, nil
		}
		if h := firstOf(peerHashes, SHA256, SHA384, SHA512); h != 0 {
			return algorithm{family: famPSS, hash: h, salt: h.crypto().Size()}, methodSignature, nil // RFC 8247 §3.2
		}
	}
	return algorithm{}, 0, fmt.Errorf("%w: key of type %T for a peer with %v", ErrUnsupportedAlgorithm, key, peerHashes)
}

// firstOf is the first of want that is in have, or 0.
func firstOf(have []Hash, want ...Hash) Hash {
	for _, h := range want {
		if slices.Contains(have, h) {
			return h
		}
	}
	return 0
}

// rawECDSA turns SEQUENCE{r, s} into r | s, each of n octets (RFC 4754 §7).
func rawECDSA(sig []byte, n int) ([]byte, error) {
	s := cryptobyte.String(sig)
	var seq cryptobyte.String
	var r, v big.Int
	if !s.ReadASN1(&seq, der.SEQUENCE) || !s.Empty() || !seq.ReadASN1Integer(&r) || !seq.ReadASN1Integer(&v) ||
		!seq.Empty() || r.Sign() < 0 || v.Sign() < 0 || r.BitLen() > 8*n || v.BitLen() > 8*n {
		return nil, errors.New("suite: sign: not an ECDSA signature")
	}
	raw := make([]byte, 2*n)
	r.FillBytes(raw[:n])
	v.FillBytes(raw[n:])
	return raw, nil
}

// derECDSA is the way back.
func derECDSA(raw []byte) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
		n := len(raw) / 2
		b.AddASN1BigInt(new(big.Int).SetBytes(raw[:n]))
		b.AddASN1BigInt(new(big.Int).SetBytes(raw[n:]))
	})
	return b.Bytes()
}
