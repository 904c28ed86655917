package identity

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"fmt"
	"math/big"

	"golang.org/x/crypto/cryptobyte"
)

// ParseSSHKey reads a public key as OpenSSH writes it into known_hosts and authorized_keys: the name of its algorithm and
// its base64 (RFC 4253 §6.6, RFC 5656 §3.1, RFC 8709 §4). The fingerprint is that of the SubjectPublicKeyInfo, as of every
// key here, and not the one that OpenSSH shows.
func ParseSSHKey(algorithm, text string) (PublicKey, error) {
	blob, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || len(blob) > maxSPKI {
		return PublicKey{}, fmt.Errorf("%w: not the base64 of an SSH key", ErrKey)
	}
	in := cryptobyte.String(blob)
	var name cryptobyte.String
	if !readSSHString(&in, &name) || string(name) != algorithm {
		return PublicKey{}, fmt.Errorf("%w: the octets are not those of %q", ErrKey, algorithm)
	}
	switch algorithm {
	case "ssh-ed25519":
		var point cryptobyte.String
		if readSSHString(&in, &point) && in.Empty() {
			return FromCrypto(ed25519.PublicKey(point))
		}
	case "ecdsa-sha2-nistp256":
		return sshECDSA(in, elliptic.P256(), "nistp256")
	case "ecdsa-sha2-nistp384":
		return sshECDSA(in, elliptic.P384(), "nistp384")
	case "ssh-rsa":
		return sshRSA(in)
	default:
		return PublicKey{}, fmt.Errorf("%w: algorithm %q", ErrKey, algorithm)
	}
	return PublicKey{}, fmt.Errorf("%w: damaged %q", ErrKey, algorithm)
}

// IsSSHAlgorithm reports whether a word names a kind of key that [ParseSSHKey] reads.
func IsSSHAlgorithm(word string) bool {
	switch word {
	case "ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ssh-rsa":
		return true
	}
	return false
}

func sshECDSA(in cryptobyte.String, curve elliptic.Curve, want string) (PublicKey, error) {
	var name, point cryptobyte.String
	if !readSSHString(&in, &name) || string(name) != want || !readSSHString(&in, &point) || !in.Empty() {
		return PublicKey{}, fmt.Errorf("%w: damaged ECDSA key", ErrKey)
	}
	k, err := ecdsa.ParseUncompressedPublicKey(curve, point)
	if err != nil {
		return PublicKey{}, fmt.Errorf("%w: %w", ErrKey, err)
	}
	return FromCrypto(k)
}

func sshRSA(in cryptobyte.String) (PublicKey, error) {
	var e, n cryptobyte.String
	if !readSSHString(&in, &e) || !readSSHString(&in, &n) || !in.Empty() || len(e) == 0 || len(e) > 4 || len(n) == 0 ||
		e[0]&0x80 != 0 || n[0]&0x80 != 0 { // the top bit is the sign (RFC 4251 §5)
		return PublicKey{}, fmt.Errorf("%w: damaged RSA key", ErrKey)
	}
	exponent := new(big.Int).SetBytes(e).Int64()
	return FromCrypto(&rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(exponent)})
}

func readSSHString(in, out *cryptobyte.String) bool {
	var size uint32
	var b []byte
	if !in.ReadUint32(&size) || uint64(size) > uint64(len(*in)) || !in.ReadBytes(&b, int(size)) {
		return false
	}
	*out = b
	return true
}
