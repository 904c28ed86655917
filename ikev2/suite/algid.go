package suite

import (
	"encoding/asn1"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	der "golang.org/x/crypto/cryptobyte/asn1"
)

// family is a signature algorithm without its hash.
type family uint8

const (
	famEd25519 family = iota + 1
	famECDSA
	famPKCS1
	famPSS
)

// algorithm is what an AlgorithmIdentifier says.
type algorithm struct {
	family family
	hash   Hash
	salt   int // PSS only
}

var (
	oidPSS  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10}
	oidMGF1 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 8}
)

// signatureOIDs are the identifiers that say everything by themselves (RFC 7427 appendix A, RFC 8420 §2).
var signatureOIDs = []struct {
	oid asn1.ObjectIdentifier
	algorithm
}{
	{asn1.ObjectIdentifier{1, 3, 101, 112}, algorithm{family: famEd25519, hash: Identity}},
	{asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}, algorithm{family: famECDSA, hash: SHA256}},
	{asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 3}, algorithm{family: famECDSA, hash: SHA384}},
	{asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 4}, algorithm{family: famECDSA, hash: SHA512}},
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}, algorithm{family: famPKCS1, hash: SHA256}},
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 12}, algorithm{family: famPKCS1, hash: SHA384}},
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 13}, algorithm{family: famPKCS1, hash: SHA512}},
}

var hashOIDs = []struct {
	oid  asn1.ObjectIdentifier
	hash Hash
}{
	{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}, SHA256},
	{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}, SHA384},
	{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 3}, SHA512},
}

// appendDER appends the AlgorithmIdentifier in the form that strongSwan and Libreswan send, because the latter compares
// octets: NULL with RSA and with hashes, nothing with the rest, defaults of PSS left out.
func (a algorithm) appendDER(dst []byte) ([]byte, error) {
	b := cryptobyte.NewBuilder(dst)
	if a.family == famPSS {
		b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(oidPSS)
			b.AddASN1(der.SEQUENCE, a.addPSS)
		})
		return b.Bytes()
	}
	for _, k := range signatureOIDs {
		if k.algorithm == a {
			addIdentifier(b, k.oid, a.family == famPKCS1)
			return b.Bytes()
		}
	}
	return nil, ErrUnsupportedAlgorithm
}

func addIdentifier(b *cryptobyte.Builder, oid asn1.ObjectIdentifier, null bool) {
	b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oid)
		if null {
			b.AddASN1NULL()
		}
	})
}

// addPSS adds the contents of RSASSA-PSS-params (RFC 4055 §3.1).
func (a algorithm) addPSS(b *cryptobyte.Builder) {
	var oid asn1.ObjectIdentifier
	for _, k := range hashOIDs {
		if k.hash == a.hash {
			oid = k.oid
		}
	}
	b.AddASN1(explicit(0), func(b *cryptobyte.Builder) { addIdentifier(b, oid, true) })
	b.AddASN1(explicit(1), func(b *cryptobyte.Builder) {
		b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(oidMGF1)
			addIdentifier(b, oid, true)
		})
	})
	b.AddASN1(explicit(2), func(b *cryptobyte.Builder) { b.AddASN1Int64(int64(a.salt)) })
}

func explicit(n uint8) der.Tag { return der.Tag(n).ContextSpecific().Constructed() }

// parseAlgorithm reads the octets of one AlgorithmIdentifier by their meaning: absent and NULL parameters are the same
// where both occur, and nothing may follow.
func parseAlgorithm(b []byte) (algorithm, error) {
	oid, params, ok := readIdentifier((*cryptobyte.String)(&b))
	if !ok || len(b) != 0 {
		return algorithm{}, fmt.Errorf("%w: malformed identifier", ErrUnsupportedAlgorithm)
	}
	if oid.Equal(oidPSS) {
		a, ok := parsePSS(params)
		if !ok {
			return algorithm{}, fmt.Errorf("%w: RSASSA-PSS parameters", ErrUnsupportedAlgorithm)
		}
		return a, nil
	}
	for _, k := range signatureOIDs {
		if !oid.Equal(k.oid) {
			continue
		}
		// Only RSA has NULL (RFC 4055 §5, against RFC 5758 §3.2 and RFC 8410 §3).
		if !params.Empty() && !(k.family == famPKCS1 && isNull(params)) {
			return algorithm{}, fmt.Errorf("%w: %v with parameters", ErrUnsupportedAlgorithm, oid)
		}
		return k.algorithm, nil
	}
	return algorithm{}, fmt.Errorf("%w: %v", ErrUnsupportedAlgorithm, oid)
}

// readIdentifier takes one AlgorithmIdentifier from s; params is the rest of its contents.
func readIdentifier(s *cryptobyte.String) (oid asn1.ObjectIdentifier, params cryptobyte.String, ok bool) {
	ok = s.ReadASN1(&params, der.SEQUENCE) && params.ReadASN1ObjectIdentifier(&oid)
	return oid, params, ok
}

func isNull(s cryptobyte.String) bool {
	var null cryptobyte.String
	return s.ReadASN1(&null, der.NULL) && null.Empty() && s.Empty()
}

// readHash takes the AlgorithmIdentifier of a SHA-2 hash, all of s (RFC 4055 §2.1: NULL or nothing).
func readHash(s cryptobyte.String) (Hash, bool) {
	oid, params, ok := readIdentifier(&s)
	if !ok || !s.Empty() || !params.Empty() && !isNull(params) {
		return 0, false
	}
	for _, k := range hashOIDs {
		if oid.Equal(k.oid) {
			return k.hash, true
		}
	}
	return 0, false
}

// parsePSS reads RSASSA-PSS-params. What is left out is SHA-1, hence refused, for both hashes (RFC 8247 §3.2).
func parsePSS(s cryptobyte.String) (algorithm, bool) {
	var params, field, mgf cryptobyte.String
	if !s.ReadASN1(&params, der.SEQUENCE) || !s.Empty() {
		return algorithm{}, false
	}
	a := algorithm{family: famPSS, salt: 20}
	var ok bool
	if !params.ReadASN1(&field, explicit(0)) {
		return algorithm{}, false
	}
	if a.hash, ok = readHash(field); !ok {
		return algorithm{}, false
	}
	if !params.ReadASN1(&field, explicit(1)) {
		return algorithm{}, false
	}
	oid, mgf, ok := readIdentifier(&field)
	if !ok || !field.Empty() || !oid.Equal(oidMGF1) {
		return algorithm{}, false
	}
	if h, ok := readHash(mgf); !ok || h != a.hash {
		return algorithm{}, false
	}
	trailer := 1
	if !readInt(&params, explicit(2), &a.salt) || !readInt(&params, explicit(3), &trailer) || !params.Empty() {
		return algorithm{}, false
	}
	// A salt of none is legal in RFC 8017 and nowhere used; crypto/rsa cannot ask for it.
	return a, trailer == 1 && a.salt >= 1 && a.salt <= 512
}

// readInt takes an optional, explicitly tagged integer; without it *n keeps its default.
func readInt(s *cryptobyte.String, tag der.Tag, n *int) bool {
	var field cryptobyte.String
	var there bool
	if !s.ReadOptionalASN1(&field, &there, tag) {
		return false
	}
	return !there || field.ReadASN1Integer(n) && field.Empty()
}
