package chain

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"slices"
	"time"

	"github.com/btns-ipsec/btns/identity"
)

// Max is how many certificates a peer may send, and we may: its own and those above it (ikev2.md §12).
const Max = 4

// maxComparisons bounds what name constraints in a chain may cost.
const maxComparisons = 20000

// Verified is what a chain has proven.
type Verified struct {
	Key     identity.PublicKey // whose private half the peer must hold
	Subject string             // of its certificate, for people
	Anchor  AnchorID           // the authority
	Issuer  string             // the authority, for people
	Until   time.Time          // when the first of the certificates ends
}

// Verify says whether certificates, in DER and the peer's own first, prove at a time that their owner is id. The error is an
// [*Error]. What costs most comes last.
func (a *Anchors) Verify(sent [][]byte, id identity.ID, now time.Time) (Verified, error) {
	certs, err := read(sent)
	if err != nil {
		return Verified{}, err
	}
	own := certs[0]
	if err := fit(own, id); err != nil {
		return Verified{}, err
	}
	key, err := identity.ParsePublicKey(own.RawSubjectPublicKeyInfo)
	if err != nil {
		return Verified{}, fault(Invalid, "the certificate of %s has a key of a kind that is not accepted", label(own))
	}
	if a.Len() == 0 || now.IsZero() { // without a time the library would read a clock
		return Verified{}, fault(UnknownIssuer, "there is no authority that could vouch for %s", label(own))
	}
	above := x509.NewCertPool()
	for _, c := range certs[1:] {
		above.AddCert(c)
	}
	paths, err := own.Verify(x509.VerifyOptions{
		Roots: a.pool, Intermediates: above, CurrentTime: now, MaxConstraintComparisions: maxComparisons,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}, // see meantForIKE
	})
	if err != nil {
		return Verified{}, a.explain(err, certs, now)
	}
	for _, path := range paths {
		if slices.ContainsFunc(path[:len(path)-1], func(c *x509.Certificate) bool { return !meantForIKE(c) }) {
			continue
		}
		root := path[len(path)-1]
		v := Verified{Key: key, Subject: label(own), Anchor: idOf(root), Issuer: label(root), Until: own.NotAfter}
		for _, c := range path {
			if c.NotAfter.Before(v.Until) {
				v.Until = c.NotAfter
			}
		}
		return v, nil
	}
	return Verified{}, fault(NotForIKE, "an authority between %s and the configured one may not vouch for IKE (extended key usage)", label(own))
}

// read parses a chain.
func read(sent [][]byte) ([]*x509.Certificate, error) {
	switch {
	case len(sent) == 0:
		return nil, fault(Invalid, "there is no certificate")
	case len(sent) > Max:
		return nil, fault(TooMany, "there are %d certificates, more than %d", len(sent), Max)
	}
	var certs []*x509.Certificate
	for _, der := range sent {
		c, err := parse(der)
		if err != nil {
			return nil, err
		}
		certs = append(certs, c)
	}
	return certs, nil
}

// fit says why a certificate cannot be a peer's own for id, whoever issued it, or nil.
func fit(c *x509.Certificate, id identity.ID) error {
	switch {
	case isAuthority(c):
		// RFC 7296 §3.6
		return fault(Misordered, "the first certificate is that of the authority %s; the peer's own must come first", label(c))
	case !maySign(c):
		return fault(NotForIKE, "the certificate of %s may not sign (key usage)", label(c))
	case !meantForIKE(c):
		return fault(NotForIKE, "the certificate of %s is meant for something else than IKE (extended key usage)", label(c))
	case !about(c, id):
		return fault(OtherID, "the certificate is about %s, and not about %v", namesText(c), id)
	}
	return nil
}

var oidKeyUsage = asn1.ObjectIdentifier{2, 5, 29, 15}

// maySign reports whether a key may sign AUTH: without a key usage it may, else it needs digitalSignature or
// nonRepudiation (RFC 4945 §5.1.3.2).
func maySign(c *x509.Certificate) bool {
	limited := slices.ContainsFunc(c.Extensions, func(x pkix.Extension) bool { return x.Id.Equal(oidKeyUsage) })
	return !limited || c.KeyUsage&(x509.KeyUsageDigitalSignature|x509.KeyUsageContentCommitment) != 0
}

// Purposes that mean IKE and are unknown to the library.
var (
	oidIKE             = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 17}
	oidIKEIntermediate = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 8, 2, 2}
)

// meantForIKE reports whether an issuer meant a certificate for IKE. Without an extended key usage it did, and with
// id-kp-ipsecIKE or anyExtendedKeyUsage (RFC 4945 §5.1.3.12). Those for TLS are taken as well, against the letter of that
// section: Windows and Apple clients ask for them in certificates for IKE, and public authorities issue no others. They, too,
// say that the owner of the name speaks for it on the network, which mail, code and time stamps do not.
func meantForIKE(c *x509.Certificate) bool {
	if len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) == 0 {
		return true
	}
	for _, u := range c.ExtKeyUsage {
		switch u {
		case x509.ExtKeyUsageAny, x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth,
			x509.ExtKeyUsageIPSECEndSystem, x509.ExtKeyUsageIPSECTunnel, x509.ExtKeyUsageIPSECUser:
			return true
		}
	}
	return slices.ContainsFunc(c.UnknownExtKeyUsage, func(o asn1.ObjectIdentifier) bool {
		return o.Equal(oidIKE) || o.Equal(oidIKEIntermediate)
	})
}

// explain says what the library's error is about.
func (a *Anchors) explain(err error, certs []*x509.Certificate, now time.Time) *Error {
	var invalid x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && invalid.Cert != nil:
		if e := validAt(invalid.Cert, now); e != nil {
			return e
		}
	case errors.As(err, &unknown):
		return a.noPath(certs, now)
	}
	return fault(Invalid, "the certificate of %s: %s", label(certs[0]), printable(err.Error()))
}

// noPath says where the way from a certificate to the authorities ends.
func (a *Anchors) noPath(certs []*x509.Certificate, now time.Time) *Error {
	top, rest := certs[0], slices.Clone(certs[1:])
	for {
		if e := validAt(top, now); e != nil {
			return e
		}
		if top != certs[0] && !isAuthority(top) {
			return fault(UnknownIssuer, "%s has issued a certificate and is no authority", label(top))
		}
		if i := slices.IndexFunc(a.certs, func(c *x509.Certificate) bool { return bytes.Equal(c.RawSubject, top.RawIssuer) }); i >= 0 {
			if e := validAt(a.certs[i], now); e != nil {
				return e
			}
			return fault(UnknownIssuer, "the certificate of %s names the configured authority %s, which has not issued it", label(top), label(a.certs[i]))
		}
		i := slices.IndexFunc(rest, func(c *x509.Certificate) bool { return bytes.Equal(c.RawSubject, top.RawIssuer) })
		switch {
		case bytes.Equal(top.RawIssuer, top.RawSubject):
			return fault(UnknownIssuer, "the certificate of %s is signed by itself, and it is none of the configured authorities", label(top))
		case i < 0:
			return fault(UnknownIssuer, "the certificate of %s was issued by %s, which is none of the configured authorities, and whose own certificate was not sent",
				label(top), nameText(top.RawIssuer))
		}
		top = rest[i]
		rest = slices.Delete(rest, i, i+1)
	}
}
