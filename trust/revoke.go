package trust

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"golang.org/x/crypto/cryptobyte"

	"github.com/btns-ipsec/btns/identity"
)

// A revocation is a statement by which the holder of a key ends it (BTNS-TRUST-44). It proves itself, so that it may come
// over any transport: a notify, a file, mail.
//
//	version    1 octet: 1
//	length     2 octets, then the SubjectPublicKeyInfo
//	length     2 octets, then the signature over "btns-revoke" | 00 | 01 | fingerprint
//
// As text it is one line: "btns-revocation " and the base64 of these octets.
type Revocation struct{ key identity.PublicKey }

// Key is the revoked key.
func (r Revocation) Key() identity.PublicKey { return r.key }

const (
	revocationVersion = 1
	revocationPrefix  = "btns-revocation "
	maxRevocation     = 4096
)

// ErrRevocation says that octets are not a revocation, or one that the key did not sign.
var ErrRevocation = errors.New("trust: not a valid revocation")

func revocation(key identity.PublicKey) []byte {
	f := key.Fingerprint()
	return identity.Statement("btns-revoke", f[:])
}

// SignRevocation revokes an own key. Made beforehand and kept apart, it serves when the key is lost.
func SignRevocation(rand io.Reader, s identity.Signer) ([]byte, error) {
	sig, err := s.SignStatement(rand, revocation(s.Public))
	if err != nil {
		return nil, err
	}
	var b cryptobyte.Builder
	b.AddUint8(revocationVersion)
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(s.Public.SPKI()) })
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(sig) })
	return b.Bytes()
}

// RevocationText is a revocation as a line of text.
func RevocationText(data []byte) string {
	return revocationPrefix + base64.StdEncoding.EncodeToString(data)
}

// ParseRevocation reads a revocation, as octets or as a line of text, and checks its signature.
func ParseRevocation(data []byte) (Revocation, error) {
	if len(data) > maxRevocation {
		return Revocation{}, fmt.Errorf("%w: %d octets", ErrRevocation, len(data))
	}
	if text, ok := strings.CutPrefix(string(data), revocationPrefix); ok {
		raw, err := base64.StdEncoding.Strict().DecodeString(strings.TrimRight(text, "\r\n"))
		if err != nil {
			return Revocation{}, fmt.Errorf("%w: base64", ErrRevocation)
		}
		data = raw
	}
	in := cryptobyte.String(data)
	var version uint8
	var spki, sig cryptobyte.String
	if !in.ReadUint8(&version) || version != revocationVersion || !in.ReadUint16LengthPrefixed(&spki) ||
		!in.ReadUint16LengthPrefixed(&sig) || !in.Empty() {
		return Revocation{}, fmt.Errorf("%w: format", ErrRevocation)
	}
	key, err := identity.ParsePublicKey(spki)
	if err != nil {
		return Revocation{}, fmt.Errorf("%w: %w", ErrRevocation, err)
	}
	if !key.Signed(revocation(key), sig) {
		return Revocation{}, fmt.Errorf("%w: signature", ErrRevocation)
	}
	return Revocation{key}, nil
}

// Revoke ends a key on an operator's word: it is refused whatever else speaks for it, until ForgetKey. Its addresses stay
// closed to other keys until an operator accepts one: who stole a key must not open its address by revoking it.
func (b *Book) Revoke(now time.Time, key identity.Fingerprint) ([]Change, error) {
	if key.IsZero() {
		return nil, ErrNoRecord
	}
	return b.revoke(now, key, identity.PublicKey{}, Withdrawn)
}

// RevokeSelf ends a key on its own word, for good.
func (b *Book) RevokeSelf(now time.Time, r Revocation) ([]Change, error) {
	if r.key.IsZero() {
		return nil, ErrNoRecord
	}
	return b.revoke(now, r.key.Fingerprint(), r.key, SelfRevoked)
}

func (b *Book) revoke(now time.Time, key identity.Fingerprint, public identity.PublicKey, kind EvidenceKind) ([]Change, error) {
	r, out, err := b.ofKey(now, key)
	if err != nil {
		return out, err
	}
	if r.has(kind) {
		return out, nil
	}
	from := b.level(r)
	for _, o := range b.keys[key] { // a key that was more than a stranger is kept in mind
		r.Assurance = max(r.Assurance, min(o.Assurance, identity.Continuity))
		if o.Sticky || o.byOperator() { // none becomes so by its own doing
			r.Assurance = max(r.Assurance, identity.Continuity)
		}
	}
	if r.Public.IsZero() {
		r.Public = public
	}
	if r.Revoked.IsZero() {
		r.Revoked = now
	}
	r.note(kind, now)
	b.tell(Revoked{key, kind == SelfRevoked})
	b.tell(Lowered{Place{}, key, from, Withdraw})
	return b.takeBack(key, append(out, Put{*r})), nil
}

// takeBack makes the keys before a revoked one, which would have ended in its favour, stand for themselves again.
func (b *Book) takeBack(key identity.Fingerprint, out []Change) []Change {
	for _, old := range b.named[key] {
		if k := b.find(Place{}, old); k != nil && k.Heir == key {
			k.Heir, k.Retire = identity.Fingerprint{}, time.Time{}
			out = append(out, Put{*k})
		}
	}
	return out
}

// revoked returns the record that says that a key was revoked, or nil.
func (b *Book) revoked(key identity.Fingerprint) *Record {
	if key.IsZero() {
		return nil
	}
	if r := b.find(Place{}, key); r != nil && !r.Revoked.IsZero() {
		return r
	}
	return nil
}
