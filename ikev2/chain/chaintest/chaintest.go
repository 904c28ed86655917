// Package chaintest makes authorities and certificates for tests.
package chaintest

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	mathrand "math/rand/v2"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/identity"
)

// Epoch is when certificates begin to be valid, and End when they end, unless a test says otherwise.
var (
	Epoch = time.Date(2029, 1, 1, 0, 0, 0, 0, time.UTC)
	End   = Epoch.AddDate(5, 0, 0)
)

// Authority issues certificates.
type Authority struct {
	tb     testing.TB
	Cert   *x509.Certificate
	Signer identity.Signer
}

// Key makes a key that depends on its name alone.
func Key(tb testing.TB, name string) identity.Signer {
	tb.Helper()
	var seed [32]byte
	copy(seed[:], "key of "+name)
	s, err := identity.NewEd25519(mathrand.NewChaCha8(seed))
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// NewAuthority makes one whose certificate is signed by itself.
func NewAuthority(tb testing.TB, name string, change ...func(*x509.Certificate)) *Authority {
	tb.Helper()
	a := &Authority{tb: tb, Signer: Key(tb, name)}
	a.Cert = a.sign(authority(name, change), nil, a.Signer.Public.Crypto())
	return a
}

// Sub makes an authority under a.
func (a *Authority) Sub(name string, change ...func(*x509.Certificate)) *Authority {
	a.tb.Helper()
	sub := &Authority{tb: a.tb, Signer: Key(a.tb, name)}
	sub.Cert = a.sign(authority(name, change), a.Cert, sub.Signer.Public.Crypto())
	return sub
}

// Imitation has the name of a, and another key.
func (a *Authority) Imitation() *Authority {
	a.tb.Helper()
	b := &Authority{tb: a.tb, Signer: Key(a.tb, "imitation")}
	b.Cert = b.sign(authority(a.Cert.Subject.CommonName, nil), nil, b.Signer.Public.Crypto())
	return b
}

func authority(name string, change []func(*x509.Certificate)) *x509.Certificate {
	t := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name, Organization: []string{"Example"}},
		NotBefore: Epoch, NotAfter: End, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	for _, f := range change {
		f(t)
	}
	return t
}

// Issue makes the certificate of a host for a key, in DER.
func (a *Authority) Issue(key crypto.PublicKey, change ...func(*x509.Certificate)) []byte {
	a.tb.Helper()
	t := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "host", Organization: []string{"Example"}},
		NotBefore: Epoch, NotAfter: End, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
	}
	for _, f := range change {
		f(t)
	}
	return a.sign(t, a.Cert, key).Raw
}

func (a *Authority) sign(t, parent *x509.Certificate, key crypto.PublicKey) *x509.Certificate {
	a.tb.Helper()
	if parent == nil {
		parent = t
	}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, key, a.Signer.Private)
	if err != nil {
		a.tb.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		a.tb.Fatal(err)
	}
	return c
}

// DNS has the certificate name a host.
func DNS(name string) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.DNSNames = append(c.DNSNames, name) }
}

// Until ends the certificate early.
func Until(at time.Time) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.NotAfter = at }
}

// Now has a certificate be valid from a year ago on, for as long a time as said from now: for programs that read a clock.
func Now(valid time.Duration) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		now := time.Now()
		c.NotBefore, c.NotAfter = now.AddDate(-1, 0, 0), now.Add(valid)
	}
}

// PEM writes certificates as files have them.
func PEM(ders ...[]byte) (out []byte) {
	for _, der := range ders {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return out
}
