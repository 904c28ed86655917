package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/asn1"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

var (
	oidRSASSAPSS = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10} // RFC 4055 §3.1
	oidECKey     = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}      // RFC 5480 §2.1.1
	oidP256      = asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7}
	oidP384      = asn1.ObjectIdentifier{1, 3, 132, 0, 34}
)

// parseSPKI reads every spelling of a SubjectPublicKeyInfo that means a key we know. The two that the standard library
// refuses are taken apart here.
func parseSPKI(der []byte) (crypto.PublicKey, error) {
	if len(der) > maxSPKI {
		return nil, fmt.Errorf("%w: %d octets", ErrKey, len(der))
	}
	in := cryptobyte.String(der)
	var spki, alg, params cryptobyte.String
	var oid asn1.ObjectIdentifier
	var bits []byte
	if !in.ReadASN1(&spki, cbasn1.SEQUENCE) || !in.Empty() ||
		!spki.ReadASN1(&alg, cbasn1.SEQUENCE) || !alg.ReadASN1ObjectIdentifier(&oid) ||
		!spki.ReadASN1BitStringAsBytes(&bits) || !spki.Empty() {
		return nil, fmt.Errorf("%w: not a SubjectPublicKeyInfo", ErrKey)
	}
	params = alg
	switch {
	case oid.Equal(oidRSASSAPSS):
		return parsePSS(params, bits)
	case oid.Equal(oidECKey) && len(bits) > 0 && (bits[0] == 2 || bits[0] == 3):
		return parseCompressed(params, bits)
	}
	pub, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	return pub, nil
}

// parsePSS reads the key of an id-RSASSA-PSS SPKI. Its parameters restrict how the key is used, not which key it is
// (BTNS-CORE-33); they are absent or one sequence (RFC 4055 §3.1).
func parsePSS(params cryptobyte.String, bits []byte) (crypto.PublicKey, error) {
	if !params.Empty() && (!params.SkipASN1(cbasn1.SEQUENCE) || !params.Empty()) {
		return nil, fmt.Errorf("%w: RSASSA-PSS parameters", ErrKey)
	}
	pub, err := x509.ParsePKCS1PublicKey(bits)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	return pub, nil
}

// parseCompressed reads an EC key whose point is in compressed form (RFC 5480 §2.2).
func parseCompressed(params cryptobyte.String, bits []byte) (crypto.PublicKey, error) {
	var name asn1.ObjectIdentifier
	if !params.ReadASN1ObjectIdentifier(&name) || !params.Empty() {
		return nil, fmt.Errorf("%w: not a named curve", ErrKey)
	}
	var curve elliptic.Curve
	switch {
	case name.Equal(oidP256):
		curve = elliptic.P256()
	case name.Equal(oidP384):
		curve = elliptic.P384()
	default:
		return nil, fmt.Errorf("%w: curve %v", ErrKey, name)
	}
	x, y := elliptic.UnmarshalCompressed(curve, bits)
	if x == nil {
		return nil, fmt.Errorf("%w: not a point on %s", ErrKey, curve.Params().Name)
	}
	size := (curve.Params().BitSize + 7) / 8
	point := make([]byte, 1+2*size)
	point[0] = 4 // uncompressed (SEC 1 §2.3.3)
	x.FillBytes(point[1 : 1+size])
	y.FillBytes(point[1+size:])
	key, err := ecdsa.ParseUncompressedPublicKey(curve, point)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	return key, nil
}
