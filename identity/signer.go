package identity

import "crypto"

// Signer holds a long-term private key, here or elsewhere. Sign may be slow and may be called on any goroutine.
type Signer struct {
	Public  PublicKey
	Private crypto.Signer // never printed
}

// String names the key, never its private half.
func (s Signer) String() string { return s.Public.Fingerprint().String() }

// GoString is String, so that %#v cannot leak the private half.
func (s Signer) GoString() string { return s.String() }
