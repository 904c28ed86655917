package identity

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// Fingerprint is the SHA-256 of a canonical SubjectPublicKeyInfo: the name of a key (BTNS-TRUST-50).
type Fingerprint [32]byte

const fingerprintPrefix = "SHA256:"

// ErrFingerprint says that a text is not a fingerprint.
var ErrFingerprint = errors.New("identity: not a fingerprint")

// String is the form of OpenSSH: "SHA256:" and unpadded base64.
func (f Fingerprint) String() string {
	return fingerprintPrefix + base64.RawStdEncoding.EncodeToString(f[:])
}

// IsZero reports whether f names no key.
func (f Fingerprint) IsZero() bool { return f == Fingerprint{} }

// ParseFingerprint reads what String writes.
func ParseFingerprint(s string) (Fingerprint, error) {
	var f Fingerprint
	b64, ok := strings.CutPrefix(s, fingerprintPrefix)
	if !ok {
		return f, fmt.Errorf("%w: %q does not begin with %s", ErrFingerprint, s, fingerprintPrefix)
	}
	b, err := base64.RawStdEncoding.Strict().DecodeString(b64)
	if err != nil || len(b) != len(f) {
		return f, fmt.Errorf("%w: %q is not %d octets of base64", ErrFingerprint, s, len(f))
	}
	return Fingerprint(b), nil
}
