package suite

import (
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"

	"github.com/btns-ipsec/btns/protect"
)

// IKE is the transforms of one IKE SA.
type IKE struct {
	Cipher
	PRF   PRF
	KE    KE
	AddKE []KE // in the order of ADDKE1, ADDKE2, ..., without those chosen as none (RFC 9370)
}

// Valid reports why the combination cannot be used, or nil.
func (i IKE) Valid() error {
	if err := i.Cipher.Valid(); err != nil {
		return err
	}
	if !i.PRF.Supported() {
		return fmt.Errorf("%w: %v", ErrUnsupported, i.PRF)
	}
	if !i.KE.Supported() {
		return fmt.Errorf("%w: %v", ErrUnsupported, i.KE)
	}
	for n, k := range i.AddKE {
		if !k.Supported() || k == i.KE || slices.Contains(i.AddKE[:n], k) { // RFC 9370 §2.2.1: all different
			return fmt.Errorf("%w: additional key exchange %v", ErrUnsupported, k)
		}
	}
	return nil
}

// String is the key exchanges, the cipher and the PRF: "X25519+ML-KEM-768 AES-GCM-128 PRF-HMAC-SHA2-256".
func (i IKE) String() string {
	var b strings.Builder
	b.WriteString(i.KE.String())
	for _, k := range i.AddKE {
		b.WriteString("+" + k.String())
	}
	return b.String() + " " + i.Cipher.String() + " " + i.PRF.String()
}

// Keys is the seven keys of an IKE SA (RFC 7296 §2.14): SK_d, SK_ai and so on. "i" is the original initiator. It never
// prints.
type Keys struct{ D, Ai, Ar, Ei, Er, Pi, Pr []byte }

// Wipe zeroes every key in place, for every copy of k.
func (k Keys) Wipe() { Wipe(k.D, k.Ai, k.Ar, k.Ei, k.Er, k.Pi, k.Pr) }

// Wipe zeroes secrets that are no longer needed (RFC 7296 §2.12).
func Wipe(secrets ...[]byte) {
	for _, s := range secrets {
		clear(s)
	}
}

func (Keys) String() string               { return "keys(redacted)" }
func (Keys) GoString() string             { return "suite.Keys{redacted}" }
func (Keys) LogValue() slog.Value         { return slog.StringValue("redacted") }
func (k Keys) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, k.String()) }

// Protection is both directions of one IKE SA: from the original initiator, and from the original responder.
type Protection struct{ Initiator, Responder SK }

// Set makes p of new keys, and returns a copy of SK_d: this is what an IKE SA keeps of its keys, in one piece. What p was
// before is not wiped.
func (p *Protection) Set(c Cipher, k Keys) (d []byte, err error) {
	if err := c.check(k.Ei, k.Ai); err != nil {
		return nil, err
	}
	if err := c.check(k.Er, k.Ar); err != nil {
		return nil, err
	}
	next := cut(slices.Concat(k.D, k.Ei, k.Ai, k.Er, k.Ar))
	d, n := next(len(k.D)), c.EncrLen()+c.IntegLen()
	if err := p.Initiator.set(c, next(n)); err != nil {
		return nil, err
	}
	return d, p.Responder.set(c, next(n))
}

// SKEYSEED is that of a new IKE SA: prf(Ni | Nr, g^ir) (RFC 7296 §2.14).
func SKEYSEED(p PRF, ni, nr, shared []byte) []byte {
	return p.Sum(slices.Concat(ni, nr), shared)
}

// RekeySKEYSEED is that of an IKE SA that replaces another: p and skd are the PRF and SK_d of the old one (RFC 7296
// §2.18). Further shared secrets come from IKE_FOLLOWUP_KE (RFC 9370 §2.2.4).
func RekeySKEYSEED(p PRF, skd, shared, ni, nr []byte, further ...[]byte) []byte {
	return p.Sum(skd, append([][]byte{shared, ni, nr}, further...)...)
}

// IntermediateSKEYSEED is that after one IKE_INTERMEDIATE exchange with a key exchange: skd is the SK_d before it, the
// nonces are those of IKE_SA_INIT (RFC 9370 §2.2.2).
func IntermediateSKEYSEED(p PRF, skd, shared, ni, nr []byte) []byte {
	return p.Sum(skd, shared, ni, nr)
}

// DeriveKeys takes the seven keys from SKEYSEED with the transforms and the SPIs of the SA that they are for.
func DeriveKeys(i IKE, skeyseed, ni, nr []byte, spii, spir uint64) (Keys, error) {
	if err := i.Valid(); err != nil {
		return Keys{}, err
	}
	seed := slices.Concat(ni, nr)
	seed = binary.BigEndian.AppendUint64(seed, spii)
	seed = binary.BigEndian.AppendUint64(seed, spir)
	p, a, e := i.PRF.Size(), i.IntegLen(), i.EncrLen()
	all, err := i.PRF.Plus(skeyseed, seed, 3*p+2*a+2*e)
	if err != nil {
		return Keys{}, err
	}
	next := cut(all)
	return Keys{D: next(p), Ai: next(a), Ar: next(a), Ei: next(e), Er: next(e), Pi: next(p), Pr: next(p)}, nil
}

// ChildKeys takes the keys of a child SA from SK_d (RFC 7296 §2.17). shared is nil without a key exchange of its own;
// further shared secrets come from IKE_FOLLOWUP_KE (RFC 9370 §2.2.4). i2r protects what the initiator of the exchange
// that made the child sends.
func ChildKeys(p PRF, skd, shared, ni, nr []byte, further [][]byte, s protect.Suite) (i2r, r2i protect.Keys, err error) {
	if err := s.Valid(); err != nil {
		return i2r, r2i, fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	seed := slices.Concat(append([][]byte{shared, ni, nr}, further...)...)
	defer clear(seed)
	all, err := p.Plus(skd, seed, 2*s.KeyLen())
	if err != nil {
		return i2r, r2i, err
	}
	next := cut(all)
	for _, k := range []*protect.Keys{&i2r, &r2i} {
		k.Encr, k.Integ = next(s.EncrLen()), next(s.Integ.KeyLen())
	}
	return i2r, r2i, nil
}

// cut deals out b in pieces; a piece of no octets is nil.
func cut(b []byte) func(n int) []byte {
	return func(n int) []byte {
		if n == 0 {
			return nil
		}
		piece := b[:n:n]
		b = b[n:]
		return piece
	}
}
