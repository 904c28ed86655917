package chain

import (
	"crypto/x509"
	"slices"
	"time"

	"github.com/btns-ipsec/btns/identity"
)

// Own is a chain by which this host shows itself: its own certificate, and those above it.
type Own struct {
	Key   identity.PublicKey
	certs []*x509.Certificate
}

// NewOwn reads certificates in DER, this host's own first and each issued by the one after it. What a peer would refuse
// whatever the time and its authorities are is an [*Error].
func NewOwn(ders [][]byte) (*Own, error) {
	certs, err := read(ders)
	if err != nil {
		return nil, err
	}
	own := certs[0]
	names := namesOf(own)
	if len(names) == 0 {
		return nil, fault(OtherID, "the certificate is about nobody: it has neither a subject nor a subjectAltName")
	}
	if err := fit(own, names[len(names)-1]); err != nil {
		return nil, err
	}
	for i, c := range certs[1:] {
		if err := certs[i].CheckSignatureFrom(c); err != nil {
			return nil, fault(Misordered, "%s has not issued the certificate of %s before it", label(c), label(certs[i]))
		}
	}
	key, err := identity.ParsePublicKey(own.RawSubjectPublicKeyInfo)
	if err != nil {
		return nil, fault(Invalid, "the certificate of %s has a key of a kind that is not accepted", label(own))
	}
	return &Own{key, certs}, nil
}

// DER returns the certificates, the own one first.
func (o *Own) DER() (out [][]byte) {
	for _, c := range o.certs {
		out = append(out, slices.Clone(c.Raw))
	}
	return out
}

// ID is what this host calls itself when nothing else is said: the first name of a host that the certificate has, else the
// first of the others.
func (o *Own) ID() identity.ID {
	for _, n := range namesOf(o.certs[0]) {
		if about(o.certs[0], n) {
			return n
		}
	}
	return identity.ID{}
}

// About reports whether the certificate proves id.
func (o *Own) About(id identity.ID) bool { return about(o.certs[0], id) }

// Names are what the certificate is about, for people.
func (o *Own) Names() string { return namesText(o.certs[0]) }

// Expired says which of the certificates are not valid at a time, a sentence each.
func (o *Own) Expired(now time.Time) (out []string) {
	for _, c := range o.certs {
		if err := validAt(c, now); err != nil {
			out = append(out, err.Text)
		}
	}
	return out
}
