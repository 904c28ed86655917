package identity

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net/netip"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

const maxCertificate = 16 << 10 // octets

// FromCertificate takes the key out of a DER X.509 certificate and looks at nothing else: names, dates, extensions and
// the signature of a self-signed certificate say nothing about a BTNS peer (BTNS-CORE-34). That its owner holds the
// private half is shown by AUTH.
func FromCertificate(der []byte) (PublicKey, error) {
	c, err := openCertificate(der)
	if err != nil {
		return PublicKey{}, err
	}
	return ParsePublicKey(c.spki)
}

// SubjectID is the subject of a certificate as the identity that peers with X.509 expect by default (ID_DER_ASN1_DN).
func SubjectID(der []byte) (ID, error) {
	c, err := openCertificate(der)
	if err != nil {
		return ID{}, err
	}
	return ID{Type: IDDN, Data: string(c.subject)}, nil
}

type certificate struct{ subject, spki cryptobyte.String }

// openCertificate walks the outer structure of RFC 5280 §4.1 without entering names or extensions.
func openCertificate(der []byte) (certificate, error) {
	if len(der) > maxCertificate {
		return certificate{}, fmt.Errorf("%w: certificate of %d octets", ErrKey, len(der))
	}
	version := cbasn1.Tag(0).ContextSpecific().Constructed()
	in := cryptobyte.String(der)
	var cert, tbs cryptobyte.String
	var c certificate
	ok := in.ReadASN1(&cert, cbasn1.SEQUENCE) && in.Empty() &&
		cert.ReadASN1(&tbs, cbasn1.SEQUENCE) &&
		cert.SkipASN1(cbasn1.SEQUENCE) && // signatureAlgorithm
		cert.SkipASN1(cbasn1.BIT_STRING) && cert.Empty() &&
		tbs.SkipOptionalASN1(version) &&
		tbs.SkipASN1(cbasn1.INTEGER) && // serialNumber
		tbs.SkipASN1(cbasn1.SEQUENCE) && // signature
		tbs.SkipASN1(cbasn1.SEQUENCE) && // issuer
		tbs.SkipASN1(cbasn1.SEQUENCE) && // validity
		tbs.ReadASN1Element(&c.subject, cbasn1.SEQUENCE) &&
		tbs.ReadASN1Element(&c.spki, cbasn1.SEQUENCE)
	if !ok {
		return certificate{}, fmt.Errorf("%w: not a certificate", ErrKey)
	}
	return c, nil
}

// SelfSigned makes a certificate of s for peers that want X.509. Names go into subjectAltName where peers look for the
// identity; the subject is the fingerprint. It is valid for ten years around now, which only such peers look at.
func SelfSigned(s Signer, now time.Time, rand io.Reader, names ...ID) ([]byte, error) {
	serial := make([]byte, 16)
	if _, err := io.ReadFull(rand, serial); err != nil {
		return nil, fmt.Errorf("identity: serial number: %w", err)
	}
	serial[0] = serial[0]&0x7f | 0x40 // positive, and always 16 octets
	t := &x509.Certificate{
		SerialNumber:          new(big.Int).SetBytes(serial),
		Subject:               pkix.Name{CommonName: s.Public.Fingerprint().String()},
		NotBefore:             now.AddDate(0, 0, -2), // clocks differ
		NotAfter:              now.AddDate(10, 0, 0),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
	}
	for _, n := range names {
		switch n.Type {
		case IDFQDN:
			t.DNSNames = append(t.DNSNames, n.Data)
		case IDRFC822:
			t.EmailAddresses = append(t.EmailAddresses, n.Data)
		case IDv4, IDv6:
			if a, ok := netip.AddrFromSlice([]byte(n.Data)); ok {
				t.IPAddresses = append(t.IPAddresses, a.AsSlice())
			}
		}
	}
	der, err := x509.CreateCertificate(rand, t, t, s.Public.Crypto(), s.Private)
	if err != nil {
		return nil, fmt.Errorf("identity: self-signed certificate: %w", err)
	}
	return der, nil
}
