package suite

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"

	"filippo.io/bigmod"
)

// modp is one group of RFC 3526 with generator 2.
type modp struct {
	prime []byte
	// exp is the length of a private exponent in octets: more than twice the strength that RFC 3526 §8 estimates at most.
	exp int
}

var modpGroups = map[KE]modp{
	MODP2048: {exp: 40, prime: constant("" +
		"ffffffffffffffffc90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74020bbea63b139b22514a08798e3404dd" +
		"ef9519b3cd3a431b302b0a6df25f14374fe1356d6d51c245e485b576625e7ec6f44c42e9a637ed6b0bff5cb6f406b7ed" +
		"ee386bfb5a899fa5ae9f24117c4b1fe649286651ece45b3dc2007cb8a163bf0598da48361c55d39a69163fa8fd24cf5f" +
		"83655d23dca3ad961c62f356208552bb9ed529077096966d670c354e4abc9804f1746c08ca18217c32905e462e36ce3b" +
		"e39e772c180e86039b2783a2ec07a28fb5c55df06f4c52c9de2bcbf6955817183995497cea956ae515d2261898fa0510" +
		"15728e5a8aacaa68ffffffffffffffff")},
	MODP3072: {exp: 52, prime: constant("" +
		"ffffffffffffffffc90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74020bbea63b139b22514a08798e3404dd" +
		"ef9519b3cd3a431b302b0a6df25f14374fe1356d6d51c245e485b576625e7ec6f44c42e9a637ed6b0bff5cb6f406b7ed" +
		"ee386bfb5a899fa5ae9f24117c4b1fe649286651ece45b3dc2007cb8a163bf0598da48361c55d39a69163fa8fd24cf5f" +
		"83655d23dca3ad961c62f356208552bb9ed529077096966d670c354e4abc9804f1746c08ca18217c32905e462e36ce3b" +
		"e39e772c180e86039b2783a2ec07a28fb5c55df06f4c52c9de2bcbf6955817183995497cea956ae515d2261898fa0510" +
		"15728e5a8aaac42dad33170d04507a33a85521abdf1cba64ecfb850458dbef0a8aea71575d060c7db3970f85a6e1e4c7" +
		"abf5ae8cdb0933d71e8c94e04a25619dcee3d2261ad2ee6bf12ffa06d98a0864d87602733ec86a64521f2b18177b200c" +
		"bbe117577a615d6c770988c0bad946e208e24fa074e5ab3143db5bfce0fd108e4b82d120a93ad2caffffffffffffffff")},
	MODP4096: {exp: 60, prime: constant("" +
		"ffffffffffffffffc90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74020bbea63b139b22514a08798e3404dd" +
		"ef9519b3cd3a431b302b0a6df25f14374fe1356d6d51c245e485b576625e7ec6f44c42e9a637ed6b0bff5cb6f406b7ed" +
		"ee386bfb5a899fa5ae9f24117c4b1fe649286651ece45b3dc2007cb8a163bf0598da48361c55d39a69163fa8fd24cf5f" +
		"83655d23dca3ad961c62f356208552bb9ed529077096966d670c354e4abc9804f1746c08ca18217c32905e462e36ce3b" +
		"e39e772c180e86039b2783a2ec07a28fb5c55df06f4c52c9de2bcbf6955817183995497cea956ae515d2261898fa0510" +
		"15728e5a8aaac42dad33170d04507a33a85521abdf1cba64ecfb850458dbef0a8aea71575d060c7db3970f85a6e1e4c7" +
		"abf5ae8cdb0933d71e8c94e04a25619dcee3d2261ad2ee6bf12ffa06d98a0864d87602733ec86a64521f2b18177b200c" +
		"bbe117577a615d6c770988c0bad946e208e24fa074e5ab3143db5bfce0fd108e4b82d120a92108011a723c12a787e6d7" +
		"88719a10bdba5b2699c327186af4e23c1a946834b6150bda2583e9ca2ad44ce8dbbbc2db04de8ef92e8efc141fbecaa6" +
		"287c59474e6bc05d99b2964fa090c3a2233ba186515be7ed1f612970cee2d7afb81bdd762170481cd0069127d5b05aa9" +
		"93b4ea988d8fddc186ffb7dc90a6c08f4df435c934063199ffffffffffffffff")},
}

// constant is for the constants of this file only.
func constant(s string) []byte {
	b, _ := hex.DecodeString(s)
	return b
}

func (p *Private) generateMODP(rand io.Reader) error {
	g := modpGroups[p.ke]
	exp := make([]byte, g.exp)
	if _, err := io.ReadFull(rand, exp); err != nil {
		return fmt.Errorf("suite: entropy for %v: %w", p.ke, err)
	}
	two := make([]byte, len(g.prime))
	two[len(two)-1] = 2
	public, err := g.power(two, exp)
	if err != nil {
		return fmt.Errorf("suite: %v: %w", p.ke, err)
	}
	p.exp, p.public = exp, public
	return nil
}

// sharedMODP computes the secret. The groups are of safe primes, so a value from 2 to p-2 is all there is to check
// (RFC 6989 §2.1).
func (p *Private) sharedMODP(peer []byte) ([]byte, error) {
	g := modpGroups[p.ke]
	if !g.inRange(peer) {
		return nil, fmt.Errorf("%w: %v: not from 2 to p-2", ErrPublicValue, p.ke)
	}
	secret, err := g.power(peer, p.exp)
	if err != nil {
		return nil, fmt.Errorf("%w: %v: %w", ErrPublicValue, p.ke, err)
	}
	return secret, nil
}

// inRange reports 2 <= y <= p-2 for octets of the length of p. It works on public values: its time may depend on them.
func (g modp) inRange(y []byte) bool {
	last := len(y) - 1
	if y[last] < 2 && len(bytes.Trim(y[:last], "\x00")) == 0 {
		return false
	}
	limit := bytes.Clone(g.prime) // odd, so that p-1 differs from p in the last octet only
	limit[last]--
	return bytes.Compare(y, limit) < 0
}

// power is base^exp in constant time for one length of exp.
func (g modp) power(base, exp []byte) ([]byte, error) {
	m, err := bigmod.NewModulus(g.prime)
	if err != nil {
		return nil, err
	}
	b, err := bigmod.NewNat().SetBytes(base, m)
	if err != nil {
		return nil, err
	}
	return bigmod.NewNat().Exp(b, exp, m).Bytes(m), nil
}
