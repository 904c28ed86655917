package trust

import (
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/crypto/cryptobyte"

	"github.com/btns-ipsec/btns/identity"
)

// A key is handed over in a session that it authenticates itself (BTNS-TRUST-40): the data of a private notify in an
// INFORMATIONAL exchange lists the keys that may come in its place.
//
//	version    1 octet: 1
//	count      1 octet: 1 to 4
//	count times:
//	  from     8 octets: seconds since 1970, when the key may be used
//	  length   2 octets, then the SubjectPublicKeyInfo
//	  length   2 octets, then the proof
//
// The proof is the new key's signature over "btns-rotate" | 00 | 01 | binding | SHA-256(old SPKI) | new SPKI. The old key's
// word for it is the IKE SA, which it authenticated and which the binding names: a list cannot be replayed into another
// SA, nor an older one brought back, and nobody can name a key that is not his.

const (
	announcementVersion = 1
	maxAnnounced        = 4 // BTNS-TRUST-41
	maxProof            = 1024
	maxFrom             = 1 << 35 // seconds: about the year 3058
)

// ErrAnnouncement says that octets are not a list of successors.
var ErrAnnouncement = errors.New("trust: not a list of successors")

// Announced is an entry of a list of successors, not yet proven.
type Announced struct {
	Key   identity.PublicKey
	From  time.Time
	Proof []byte
}

// Upcoming is an own key that is to be announced.
type Upcoming struct {
	Signer identity.Signer
	From   time.Time // at least 30 days ahead (BTNS-TRUST-42)
}

func rotation(binding identity.Binding, old, next identity.PublicKey) []byte {
	f := old.Fingerprint()
	return identity.Statement("btns-rotate", binding[:], f[:], next.SPKI())
}

// Announce makes the list for a session in which this host has authenticated itself with current. Entropy is for RSA keys.
func Announce(rand io.Reader, binding identity.Binding, current identity.PublicKey, keys []Upcoming) ([]byte, error) {
	if len(keys) == 0 || len(keys) > maxAnnounced {
		return nil, fmt.Errorf("%w: %d keys", ErrAnnouncement, len(keys))
	}
	var b cryptobyte.Builder
	b.AddUint8(announcementVersion)
	b.AddUint8(uint8(len(keys)))
	for _, k := range keys {
		proof, err := k.Signer.SignStatement(rand, rotation(binding, current, k.Signer.Public))
		if err != nil {
			return nil, err
		}
		b.AddUint64(uint64(max(k.From.Unix(), 0)))
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(k.Signer.Public.SPKI()) })
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(proof) })
	}
	return b.Bytes()
}

// ParseAnnouncement reads a list of successors.
func ParseAnnouncement(data []byte) ([]Announced, error) {
	in := cryptobyte.String(data)
	var version, count uint8
	if !in.ReadUint8(&version) || version != announcementVersion || !in.ReadUint8(&count) || count == 0 || count > maxAnnounced {
		return nil, fmt.Errorf("%w: header", ErrAnnouncement)
	}
	out := make([]Announced, 0, count)
	for range count {
		var from uint64
		var spki, proof cryptobyte.String
		if !in.ReadUint64(&from) || from > maxFrom || !in.ReadUint16LengthPrefixed(&spki) ||
			!in.ReadUint16LengthPrefixed(&proof) || len(proof) == 0 || len(proof) > maxProof {
			return nil, fmt.Errorf("%w: entry", ErrAnnouncement)
		}
		key, err := identity.ParsePublicKey(spki)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrAnnouncement, err)
		}
		out = append(out, Announced{key, time.Unix(int64(from), 0).UTC(), proof})
	}
	if !in.Empty() {
		return nil, fmt.Errorf("%w: octets after the end", ErrAnnouncement)
	}
	return out, nil
}

// Proven reports whether the holder of the announced key agreed to take over from old, in the session of this binding.
func (a Announced) Proven(binding identity.Binding, old identity.PublicKey) bool {
	return a.Key.Signed(rotation(binding, old, a.Key), a.Proof)
}
