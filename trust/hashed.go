package trust

import (
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // OpenSSH's form; a keyed hash of a name, where collisions are no use to anybody
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"hash"
	"strings"
)

// errHashed says that a text is not a hashed selector.
var errHashed = errors.New("not a hashed selector")

// HashSelector hides a selector in a text of known peers: who reads the file learns no names, and whoever has a name can
// ask for it (BTNS-TRUST-19).
func HashSelector(salt [32]byte, selector string) string {
	return "|2|" + base64.StdEncoding.EncodeToString(salt[:]) + "|" +
		base64.StdEncoding.EncodeToString(mac(sha256.New, salt[:], selector))
}

// MatchHashed reports whether a hashed selector, of our form or of OpenSSH's, is that of a plain one.
func MatchHashed(hashed, selector string) bool {
	h, salt, want, err := splitHashed(hashed)
	return err == nil && subtle.ConstantTimeCompare(mac(h, salt, selector), want) == 1
}

func mac(h func() hash.Hash, salt []byte, selector string) []byte {
	m := hmac.New(h, salt)
	m.Write([]byte(selector)) // a hash never fails
	return m.Sum(nil)
}

func splitHashed(s string) (h func() hash.Hash, salt, want []byte, err error) {
	parts := strings.Split(s, "|")
	if len(parts) != 4 || parts[0] != "" {
		return nil, nil, nil, errHashed
	}
	size, saltSize := sha256.Size, 32
	switch parts[1] {
	case "1":
		h, size, saltSize = sha1.New, sha1.Size, sha1.Size
	case "2":
		h = sha256.New
	default:
		return nil, nil, nil, errHashed
	}
	salt, err1 := base64.StdEncoding.Strict().DecodeString(parts[2])
	want, err2 := base64.StdEncoding.Strict().DecodeString(parts[3])
	if err1 != nil || err2 != nil || len(salt) != saltSize || len(want) != size {
		return nil, nil, nil, errHashed
	}
	return h, salt, want, nil
}
