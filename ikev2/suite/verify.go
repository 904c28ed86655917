package suite

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"fmt"
	"slices"

	"github.com/btns-ipsec/btns/identity"
)

// Verify checks the AUTH data of a signature by key. ourHashes is what we announced, provided that the peer announced
// hashes too: then the method must be 14 with one of these hashes, else it must be one of the older ones (RFC 7427 §4).
//
// [ErrUnsupportedAlgorithm] means that nothing was verified, [ErrSignature] that it was and failed.
func Verify(key identity.PublicKey, ourHashes []Hash, method uint8, data, octets []byte) error {
	if (method == methodSignature) != (len(ourHashes) != 0) {
		return fmt.Errorf("%w: method %d, announced %v", ErrUnsupportedAlgorithm, method, ourHashes)
	}
	switch method {
	case methodSignature:
		return verifySignature(key, ourHashes, data, octets)
	case methodECDSA256:
		return verifyRawECDSA(key, SHA256, data, octets)
	case methodECDSA384:
		return verifyRawECDSA(key, SHA384, data, octets)
	case methodRSA:
		return verifyRSA(key, data, octets)
	}
	return fmt.Errorf("%w: method %d", ErrUnsupportedAlgorithm, method)
}

// verifySignature checks length | AlgorithmIdentifier | signature (RFC 7427 §3).
func verifySignature(key identity.PublicKey, ourHashes []Hash, data, octets []byte) error {
	if len(data) == 0 || len(data) < 1+int(data[0]) {
		return fmt.Errorf("%w: no identifier", ErrUnsupportedAlgorithm)
	}
	id, sig := data[1:1+int(data[0])], data[1+int(data[0]):]
	a, err := parseAlgorithm(id)
	if err != nil {
		return err
	}
	if !slices.Contains(ourHashes, a.hash) {
		return fmt.Errorf("%w: %v was not announced", ErrUnsupportedAlgorithm, a.hash)
	}
	digest := a.hash.digest(octets)
	fits, good := false, false
	switch k := key.Crypto().(type) {
	case ed25519.PublicKey:
		fits = a.family == famEd25519
		good = fits && ed25519.Verify(k, digest, sig)
	case *ecdsa.PublicKey:
		fits = a.family == famECDSA // of any SHA-2: method 14 binds no hash to a curve (RFC 7427 §3)
		good = fits && ecdsa.VerifyASN1(k, digest, sig)
	case *rsa.PublicKey:
		switch a.family {
		case famPKCS1:
			fits = true
			good = rsa.VerifyPKCS1v15(k, a.hash.crypto(), digest, sig) == nil
		case famPSS:
			fits = true
			opts := &rsa.PSSOptions{SaltLength: a.salt, Hash: a.hash.crypto()}
			good = rsa.VerifyPSS(k, a.hash.crypto(), digest, sig, opts) == nil
		}
	}
	if !fits {
		return fmt.Errorf("%w: not for this key", ErrUnsupportedAlgorithm)
	}
	if !good {
		return ErrSignature
	}
	return nil
}

// verifyRawECDSA checks r | s of fixed width by a key on the curve that goes with the hash (RFC 4754).
func verifyRawECDSA(key identity.PublicKey, h Hash, data, octets []byte) error {
	k, ok := key.Crypto().(*ecdsa.PublicKey)
	if !ok || k.Curve.Params().BitSize != 8*h.crypto().Size() {
		return fmt.Errorf("%w: ECDSA with %v, not for this key", ErrUnsupportedAlgorithm, h)
	}
	if len(data) != 2*h.crypto().Size() {
		return fmt.Errorf("%w: %d octets", ErrSignature, len(data))
	}
	sig, err := derECDSA(data)
	if err != nil || !ecdsa.VerifyASN1(k, h.digest(octets), sig) {
		return ErrSignature
	}
	return nil
}

// verifyRSA checks PKCS#1 v1.5 with whichever SHA-2 the peer took: nothing says which (RFC 7296 §3.8). SHA-1, the
// default there, is ruled out by RFC 8247 §3.2.
func verifyRSA(key identity.PublicKey, data, octets []byte) error {
	k, ok := key.Crypto().(*rsa.PublicKey)
	if !ok {
		return fmt.Errorf("%w: RSA, not for this key", ErrUnsupportedAlgorithm)
	}
	for _, h := range []Hash{SHA256, SHA384, SHA512} {
		if rsa.VerifyPKCS1v15(k, h.crypto(), h.digest(octets), data) == nil {
			return nil
		}
	}
	return ErrSignature
}
