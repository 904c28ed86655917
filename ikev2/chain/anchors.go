package chain

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // RFC 7296 §3.7 fixes it; nothing rests on its strength
	"crypto/sha256"
	"crypto/x509"
	"time"

	"github.com/btns-ipsec/btns/identity"
)

// Anchors are authorities whose word is taken. They do not change, so that any goroutine may use them. Nil are none.
type Anchors struct {
	pool   *x509.CertPool
	certs  []*x509.Certificate
	hashes []byte // SHA-1 of the key of each (RFC 7296 §3.7)
}

// AnchorID names an authority by what makes it one: its name and its key (RFC 5280 §6.1.1).
type AnchorID [sha256.Size]byte

const (
	maxCertificate = 16 << 10 // octets
	maxRSABits     = 8192     // longer keys only cost us work
	minRSABits     = 2048
)

// NewAnchors reads the certificates of authorities, in DER. One that says of itself that it is no authority is refused.
func NewAnchors(ders ...[]byte) (*Anchors, error) {
	a := &Anchors{pool: x509.NewCertPool()}
	for _, der := range ders {
		c, err := parse(der)
		if err != nil {
			return nil, err
		}
		if !isAuthority(c) {
			return nil, fault(NotForIKE, "%s is not the certificate of an authority (CA:TRUE)", label(c))
		}
		a.add(c)
	}
	return a, nil
}

// Join is the authorities of all of list, each once.
func Join(list ...*Anchors) *Anchors {
	all := &Anchors{pool: x509.NewCertPool()}
	for _, a := range list {
		if a == nil {
			continue
		}
		for _, c := range a.certs {
			all.add(c)
		}
	}
	return all
}

func (a *Anchors) add(c *x509.Certificate) {
	for _, o := range a.certs {
		if bytes.Equal(o.Raw, c.Raw) {
			return
		}
	}
	sum := sha1.Sum(c.RawSubjectPublicKeyInfo) //nolint:gosec // see import
	a.pool.AddCert(c)
	a.certs, a.hashes = append(a.certs, c), append(a.hashes, sum[:]...)
}

// Len is how many there are.
func (a *Anchors) Len() int {
	if a == nil {
		return 0
	}
	return len(a.certs)
}

// Names are the authorities for people: no octet of theirs goes unescaped.
func (a *Anchors) Names() (names []string) {
	if a != nil {
		for _, c := range a.certs {
			names = append(names, label(c))
		}
	}
	return names
}

// Holds reports whether the authority is one of them.
func (a *Anchors) Holds(id AnchorID) bool {
	if a != nil {
		for _, c := range a.certs {
			if idOf(c) == id {
				return true
			}
		}
	}
	return false
}

// Expired says which of them are not valid at a time, a sentence each.
func (a *Anchors) Expired(now time.Time) (out []string) {
	if a != nil {
		for _, c := range a.certs {
			if err := validAt(c, now); err != nil {
				out = append(out, err.Text)
			}
		}
	}
	return out
}

// Hashes are what a certificate request names the first of them by (RFC 7296 §3.7).
func (a *Anchors) Hashes(most int) []byte {
	if a.Len() == 0 {
		return nil
	}
	return bytes.Clone(a.hashes[:sha1.Size*min(most, a.Len())])
}

func idOf(c *x509.Certificate) AnchorID {
	return sha256.Sum256(append(append([]byte(nil), c.RawSubject...), c.RawSubjectPublicKeyInfo...))
}

// parse reads a certificate of bounded size and a key that costs a bounded time.
func parse(der []byte) (*x509.Certificate, error) {
	if len(der) > maxCertificate {
		return nil, fault(Invalid, "a certificate has %d octets, more than %d", len(der), maxCertificate)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fault(Invalid, "a certificate cannot be read: %s", printable(err.Error()))
	}
	if k, ok := c.PublicKey.(*rsa.PublicKey); ok && (k.N.BitLen() > maxRSABits || k.N.BitLen() < minRSABits) {
		return nil, fault(Invalid, "%s has an RSA key of %d bits; there must be %d to %d", label(c), k.N.BitLen(), minRSABits, maxRSABits)
	}
	return c, nil
}

// isAuthority reports whether c may issue certificates (RFC 5280 §4.2.1.9). One of version 1 cannot say so, and is none.
func isAuthority(c *x509.Certificate) bool { return c.BasicConstraintsValid && c.IsCA }

// validAt says why a certificate is not valid at a time, or nil.
func validAt(c *x509.Certificate, now time.Time) *Error {
	switch {
	case now.After(c.NotAfter):
		return fault(Expired, "the certificate of %s was valid until %s", label(c), c.NotAfter.UTC().Format(time.DateTime))
	case now.Before(c.NotBefore):
		return fault(NotYetValid, "the certificate of %s is valid from %s on; it is %s here",
			label(c), c.NotBefore.UTC().Format(time.DateTime), now.UTC().Format(time.DateTime))
	}
	return nil
}

// label is what a certificate is about, for people.
func label(c *x509.Certificate) string {
	if identity.ValidName(string(c.RawSubject)) {
		return nameText(c.RawSubject)
	}
	if ids := namesOf(c); len(ids) > 0 {
		return ids[0].String()
	}
	return "nobody"
}
