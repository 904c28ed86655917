package suite

import (
	"crypto/ecdh"
	"crypto/mlkem"
	"errors"
	"fmt"
	"io"
	"log/slog"
)

// KE is a key exchange method (transform types 4 and 6 to 12).
type KE uint16

const (
	NoKE     KE = 0
	MODP2048 KE = 14 // RFC 3526
	MODP3072 KE = 15
	MODP4096 KE = 16
	P256     KE = 19 // RFC 5903
	P384     KE = 20
	X25519   KE = 31 // RFC 8031
	MLKEM768 KE = 36 // FIPS 203
)

func (k KE) String() string {
	switch k {
	case NoKE:
		return "none"
	case MODP2048:
		return "MODP-2048"
	case MODP3072:
		return "MODP-3072"
	case MODP4096:
		return "MODP-4096"
	case P256:
		return "P-256"
	case P384:
		return "P-384"
	case X25519:
		return "X25519"
	case MLKEM768:
		return "ML-KEM-768"
	}
	return fmt.Sprintf("ke(%d)", uint16(k))
}

// Supported reports whether this package can do the exchange; NoKE is none.
func (k KE) Supported() bool { return k.InitiatorLen() != 0 }

// KEM reports whether the method is a key encapsulation: what the responder sends depends on what the initiator sent.
func (k KE) KEM() bool { return k == MLKEM768 }

// InitiatorLen is the length of what the exchange initiator sends, in octets; 0 for a method that is not supported.
func (k KE) InitiatorLen() int {
	switch k {
	case MODP2048, MODP3072, MODP4096:
		return len(modpGroups[k].prime)
	case P256:
		return 64 // x | y without the 04 of the uncompressed form (RFC 5903 §7)
	case P384:
		return 96
	case X25519:
		return 32
	case MLKEM768:
		return mlkem.EncapsulationKeySize768
	}
	return 0
}

// ResponderLen is the length of what the exchange responder sends, in octets.
func (k KE) ResponderLen() int {
	if k == MLKEM768 {
		return mlkem.CiphertextSize768
	}
	return k.InitiatorLen()
}

// Private is the secret half of one key exchange. It is for one peer and one exchange, and it never prints.
type Private struct {
	ke     KE
	public []byte
	dh     *ecdh.PrivateKey           // P256, P384, X25519
	kem    *mlkem.DecapsulationKey768 // MLKEM768
	exp    []byte                     // MODP
}

// Generate makes the secret of the exchange initiator from the octets of rand. The same octets make the same secret.
func (k KE) Generate(rand io.Reader) (*Private, error) {
	p := &Private{ke: k}
	var err error
	switch k {
	case MODP2048, MODP3072, MODP4096:
		err = p.generateMODP(rand)
	case P256, P384, X25519:
		err = p.generateECDH(rand)
	case MLKEM768:
		err = p.generateKEM(rand)
	default:
		err = fmt.Errorf("%w: %v", ErrUnsupported, k)
	}
	if err != nil {
		return nil, err
	}
	return p, nil
}

func (p *Private) generateKEM(rand io.Reader) error {
	seed := make([]byte, mlkem.SeedSize)
	defer clear(seed)
	if _, err := io.ReadFull(rand, seed); err != nil {
		return fmt.Errorf("suite: entropy for %v: %w", p.ke, err)
	}
	kem, err := mlkem.NewDecapsulationKey768(seed)
	if err != nil {
		return fmt.Errorf("suite: %v: %w", p.ke, err)
	}
	p.kem, p.public = kem, kem.EncapsulationKey().Bytes()
	return nil
}

// Public is what goes into the KE payload. The slice belongs to p.
func (p *Private) Public() []byte { return p.public }

// KE is the method that p is for.
func (p *Private) KE() KE { return p.ke }

// Shared computes the shared secret from what the peer sent, in its full width: leading zeros stay (RFC 7296 §2.14).
func (p *Private) Shared(peer []byte) ([]byte, error) {
	if len(peer) != p.ke.ResponderLen() {
		return nil, fmt.Errorf("%w: %d octets for %v", ErrPublicValue, len(peer), p.ke)
	}
	switch {
	case p.dh != nil:
		return p.sharedECDH(peer)
	case p.kem != nil:
		secret, err := p.kem.Decapsulate(peer)
		if err != nil {
			return nil, fmt.Errorf("%w: %v: %w", ErrPublicValue, p.ke, err)
		}
		return secret, nil
	case p.exp != nil:
		return p.sharedMODP(peer)
	}
	return nil, fmt.Errorf("%w: the secret was wiped", ErrUnsupported)
}

// Wipe forgets the secret as far as the language lets us. p is of no use afterwards.
func (p *Private) Wipe() {
	clear(p.exp)
	p.dh, p.kem, p.exp = nil, nil, nil
}

// Respond does the exchange responder's whole part: public goes into its KE payload. ML-KEM takes its entropy from the
// operating system and not from rand: the standard library has no other way.
func (k KE) Respond(rand io.Reader, peer []byte) (public, shared []byte, err error) {
	if !k.Supported() {
		return nil, nil, fmt.Errorf("%w: %v", ErrUnsupported, k)
	}
	if len(peer) != k.InitiatorLen() {
		return nil, nil, fmt.Errorf("%w: %d octets for %v", ErrPublicValue, len(peer), k)
	}
	if k.KEM() {
		ek, err := mlkem.NewEncapsulationKey768(peer) // checks every coefficient (FIPS 203 §7.2)
		if err != nil {
			return nil, nil, fmt.Errorf("%w: %v: %w", ErrPublicValue, k, err)
		}
		shared, public = ek.Encapsulate()
		return public, shared, nil
	}
	p, err := k.Generate(rand)
	if err != nil {
		return nil, nil, err
	}
	defer p.Wipe()
	if shared, err = p.Shared(peer); err != nil {
		return nil, nil, err
	}
	return p.public, shared, nil
}

func (k KE) curve() ecdh.Curve {
	switch k {
	case P256:
		return ecdh.P256()
	case P384:
		return ecdh.P384()
	}
	return ecdh.X25519()
}

// candidates bounds the search for a scalar below the order of the curve: of P-256, one candidate in 2^32 is not.
const candidates = 8

var errScalar = errors.New("suite: the source of entropy yields no scalar")

func (p *Private) generateECDH(rand io.Reader) error {
	b := make([]byte, 32)
	if p.ke == P384 {
		b = make([]byte, 48)
	}
	defer clear(b)
	for range candidates {
		if _, err := io.ReadFull(rand, b); err != nil {
			return fmt.Errorf("suite: entropy for %v: %w", p.ke, err)
		}
		dh, err := p.ke.curve().NewPrivateKey(b)
		if err != nil {
			continue // zero, or not below the order
		}
		p.dh, p.public = dh, dh.PublicKey().Bytes()
		if p.ke != X25519 {
			p.public = p.public[1:]
		}
		return nil
	}
	return errScalar
}

func (p *Private) sharedECDH(peer []byte) ([]byte, error) {
	if p.ke != X25519 {
		peer = append([]byte{4}, peer...)
	}
	pub, err := p.ke.curve().NewPublicKey(peer) // on the curve (RFC 6989 §2.3); X25519 takes any 32 octets (RFC 8031 §2)
	if err != nil {
		return nil, fmt.Errorf("%w: %v: %w", ErrPublicValue, p.ke, err)
	}
	secret, err := p.dh.ECDH(pub) // refuses the all-zero result of X25519
	if err != nil {
		return nil, fmt.Errorf("%w: %v: %w", ErrPublicValue, p.ke, err)
	}
	return secret, nil
}

func (p *Private) String() string             { return p.ke.String() + " secret (redacted)" }
func (p *Private) GoString() string           { return p.String() }
func (p *Private) LogValue() slog.Value       { return slog.StringValue("redacted") }
func (p *Private) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, p.String()) }
