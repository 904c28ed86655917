package identity

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// RFC 7670 Appendix A.1 and A.2.
const (
	rfcEC = "3059301306072a8648ce3d020106082a8648ce3d03010703420004cb28e0999b9c7715fd0a80d8e47a77079716cbbf917dd72e97566e" +
		"a1c066957c2b57c0235fb7489768d058ff4911c20fdbe71e3699d91339afbb903ee17255dc"
	rfcRSAPrefix = "30819f300d06092a864886f70d010101050003818d00"
	rfcRSAKey    = "30818902818100bc7b434749c7b38600bfa84b44f881879a2dda08d1f0145af5806c2aed6a6172ff0dc3d4cd601638e8ca348e" +
		"bdca574231cadc9712e209b1fddba58a8c62b369038a3d1eaa727c1f39ae49ed6ebc30f8d9b52e23385a401915858c59be72f343fb1eb87b" +
		"16ffc5ab0f8f8fe9f7cb3e663d8fe9f9ecfa123066f368358ceaefd30203010001"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// BTNS-TRUST-50, BTNS-TRUST-51: names of the example keys of RFC 7670.
func TestNamesOfRFC7670Keys(t *testing.T) {
	for _, tc := range []struct{ name, spki, sum, text, words string }{
		{
			"EC", rfcEC, "e9ba871a830473c63a6bbd89b74fd2385c8619d0b2ace5d8d62c2503feaf3dcc",
			"SHA256:6bqHGoMEc8Y6a72Jt0/SOFyGGdCyrOXY1iwlA/6vPcw",
			"TEST RUNG OATH BAR YET SOWN TEST DUCT GATE MERT VERY DEAD",
		},
		{
			"RSA", rfcRSAPrefix + rfcRSAKey, "0d3ed194b47f587dad90fcf68a9ae8dc956b6d6ca0b38a0dca8bf0ffea918b7f",
			"SHA256:DT7RlLR/WH2tkPz2ipro3JVrbWygs4oNyovw/+qRi38",
			"DAM WALK CHAR CODA VOTE SUP MAKE JAN WALK BEAR MEND MEAL",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			pub, err := parseSPKI(unhex(t, tc.spki))
			if err != nil {
				t.Fatal(err)
			}
			der, err := canonical(pub)
			if err != nil || !bytes.Equal(der, unhex(t, tc.spki)) {
				t.Fatalf("canonical form %x, %v", der, err)
			}
			f := Fingerprint(sha256.Sum256(der))
			t.Run("BTNS-TRUST-50 the text of a fingerprint", func(t *testing.T) {
				if hex.EncodeToString(f[:]) != tc.sum || f.String() != tc.text {
					t.Errorf("%x %v", f[:], f)
				}
				if back, err := ParseFingerprint(tc.text); err != nil || back != f {
					t.Errorf("read back %v, %v", back, err)
				}
			})
			t.Run("BTNS-TRUST-51 its words", func(t *testing.T) {
				if f.Words() != tc.words {
					t.Errorf("%v", f.Words())
				}
			})
		})
	}
}

// An RSA key of 1024 bits, as in the example of RFC 7670, is too short to be an identity.
func TestShortRSAIsNoIdentity(t *testing.T) {
	if _, err := ParsePublicKey(unhex(t, rfcRSAPrefix+rfcRSAKey)); !errors.Is(err, ErrKey) {
		t.Errorf("raw public key: %v", err)
	}
	if _, err := FromRSAPublicKey(unhex(t, rfcRSAKey)); !errors.Is(err, ErrKey) {
		t.Errorf("encoding 11: %v", err)
	}
}

func rsaKey(t testing.TB) *rsa.PublicKey {
	t.Helper()
	n := new(big.Int).Lsh(big.NewInt(1), 2047)
	return &rsa.PublicKey{N: n.Add(n, big.NewInt(12345)), E: 65537}
}

func spki(alg func(*cryptobyte.Builder), key []byte) []byte {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, alg)
		b.AddASN1BitString(key)
	})
	return b.BytesOrPanic()
}

// BTNS-CORE-33: one key has one name, however it travelled.
func TestCanonicalForm(t *testing.T) {
	pub := rsaKey(t)
	want, err := FromCrypto(pub)
	if err != nil {
		t.Fatal(err)
	}
	pkcs1 := x509.MarshalPKCS1PublicKey(pub)
	pss := func(params ...byte) []byte {
		return spki(func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(oidRSASSAPSS)
			b.AddBytes(params)
		}, pkcs1)
	}
	base := elliptic.P384().Params()
	ec := &ecdsa.PublicKey{Curve: elliptic.P384(), X: base.Gx, Y: base.Gy} //nolint:staticcheck // the base point, as it stands in the standard
	wantEC, err := FromCrypto(ec)
	if err != nil {
		t.Fatal(err)
	}
	compressed := spki(func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oidECKey)
		b.AddASN1ObjectIdentifier(oidP384)
	}, elliptic.MarshalCompressed(ec.Curve, base.Gx, base.Gy))

	for _, tc := range []struct {
		name string
		in   []byte
		want PublicKey
		bad  bool
	}{
		{name: "rsaEncryption", in: want.SPKI(), want: want},
		{name: "RSASSA-PSS without parameters", in: pss(), want: want},
		{name: "RSASSA-PSS with default parameters", in: pss(0x30, 0), want: want},
		{name: "RSASSA-PSS with NULL", in: pss(5, 0), bad: true},
		{name: "RSASSA-PSS with two parameters", in: pss(0x30, 0, 0x30, 0), bad: true},
		{name: "EC uncompressed", in: wantEC.SPKI(), want: wantEC},
		{name: "EC compressed", in: compressed, want: wantEC},
		{name: "octets after the key", in: append(want.SPKI(), 0), bad: true},
		{name: "empty", bad: true},
		{name: "far too long", in: make([]byte, maxSPKI+1), bad: true},
	} {
		t.Run("BTNS-CORE-33 one key has one form: "+tc.name, func(t *testing.T) {
			got, err := ParsePublicKey(tc.in)
			if tc.bad != errors.Is(err, ErrKey) || got != tc.want {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
	t.Run("BTNS-CORE-39 encoding 11 holds the same key", func(t *testing.T) {
		if got, err := FromRSAPublicKey(pkcs1); err != nil || got != want {
			t.Errorf("%v, %v", got, err)
		}
	})
}

func TestRefusedKeys(t *testing.T) {
	even := rsaKey(t)
	even.N = new(big.Int).Add(even.N, big.NewInt(1))
	one := rsaKey(t)
	one.E = 1
	for name, pub := range map[string]any{
		"P-224": &ecdsa.PublicKey{
			Curve: elliptic.P224(), X: elliptic.P224().Params().Gx, Y: elliptic.P224().Params().Gy, //nolint:staticcheck // as above
		},
		"even modulus": even, "exponent 1": one, "nothing": nil, "no curve": &ecdsa.PublicKey{},
		"off the curve": &ecdsa.PublicKey{Curve: elliptic.P256(), X: big.NewInt(1), Y: big.NewInt(1)}, //nolint:staticcheck // as above
	} {
		if k, err := FromCrypto(pub); !errors.Is(err, ErrKey) || !k.IsZero() {
			t.Errorf("%s: %v, %v", name, k, err)
		}
	}
}

func signers(t testing.TB) map[string]Signer {
	t.Helper()
	ed, err := NewEd25519(bytes.NewReader(bytes.Repeat([]byte{7}, 32)))
	if err != nil {
		t.Fatal(err)
	}
	ec, err := NewECDSA(bytes.NewReader(append(bytes.Repeat([]byte{0xff}, 32), bytes.Repeat([]byte{7}, 32)...)))
	if err != nil {
		t.Fatal(err)
	}
	return map[string]Signer{"Ed25519": ed, "ECDSA P-256": ec}
}

func TestPrivateKeyRoundTrip(t *testing.T) {
	for name, s := range signers(t) {
		text, err := MarshalPrivateKey(s)
		if err != nil {
			t.Fatal(err)
		}
		back, err := ParsePrivateKey(append([]byte("a comment\n"), text...))
		if err != nil || back.Public != s.Public || s.Public.Algorithm() != name {
			t.Errorf("%s: %v, %v", name, back, err)
		}
		pub, err := ParsePublicPEM([]byte(s.Public.PublicPEM()))
		if err != nil || pub != s.Public {
			t.Errorf("%s: %v, %v", name, pub, err)
		}
		for _, text := range []string{fmt.Sprintf("%v", s), fmt.Sprintf("%#v", s), fmt.Sprintf("%+v", s)} {
			if text != s.Public.Fingerprint().String() {
				t.Errorf("%s prints %q", name, text)
			}
		}
		damaged := bytes.Replace(text, []byte("MC"), []byte("MD"), 1)
		damaged = bytes.Replace(damaged, []byte("MIG"), []byte("MIH"), 1)
		if _, err := ParsePrivateKey(damaged); !errors.Is(err, ErrPrivateKey) || strings.Contains(err.Error(), "MD") {
			t.Errorf("%s damaged: %v", name, err)
		}
	}
	if _, err := ParsePrivateKey(nil); !errors.Is(err, ErrPrivateKey) {
		t.Errorf("empty: %v", err)
	}
}

// BTNS-CORE-34, BTNS-CORE-31: a certificate is a wrapper of the key; its names and dates do not matter.
func TestCertificateIsOnlyItsKey(t *testing.T) {
	long := time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC)
	for name, s := range signers(t) {
		fqdn, err := ParseID("a.lab.example")
		if err != nil {
			t.Fatal(err)
		}
		der, err := SelfSigned(s, long, rand.Reader, fqdn)
		if err != nil {
			t.Fatal(err)
		}
		t.Run("BTNS-CORE-31 a self-signed certificate binds its key, "+name, func(t *testing.T) {
			if k, err := FromCertificate(der); err != nil || k != s.Public {
				t.Errorf("%v, %v", k, err)
			}
			c, err := x509.ParseCertificate(der)
			if err != nil || len(c.DNSNames) != 1 || c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) != nil {
				t.Errorf("the standard library reads %v, %v", c, err)
			}
			id, err := SubjectID(der)
			if err != nil || id.Type != IDDN || !strings.HasPrefix(id.String(), "dn:CN=SHA256:") {
				t.Errorf("subject %v, %v", id, err)
			}
		})
		t.Run("BTNS-CORE-34 one that is cut anywhere is none, "+name, func(t *testing.T) {
			for i := range der {
				if k, err := FromCertificate(der[:i]); err == nil {
					t.Fatalf("cut at %d: %v", i, k)
				}
			}
		})
	}
	if _, err := FromCertificate(make([]byte, maxCertificate+1)); !errors.Is(err, ErrKey) {
		t.Errorf("too long: %v", err)
	}
}

// RFC 4055 §1.2: a key limited to RSASSA-PSS would have to say so in its SubjectPublicKeyInfo.
func TestOwnKeyLimitedToPSS(t *testing.T) {
	t.Run("BTNS-CORE-36 no own key is limited to PSS", func(t *testing.T) {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		text := func() []byte { return pem.EncodeToMemory(&pem.Block{Type: pemPrivate, Bytes: der}) }
		if _, err := ParsePrivateKey(text()); err != nil {
			t.Fatal(err)
		}
		at := bytes.Index(der, unhex(t, "2a864886f70d010101")) + 8
		der[at] = 10 // id-RSASSA-PSS for rsaEncryption
		if s, err := ParsePrivateKey(text()); !errors.Is(err, ErrPrivateKey) {
			t.Errorf("%v, %v", s, err)
		}
	})
}

// BTNS-CORE-34: whatever stands around the key.
func TestCertificateContents(t *testing.T) {
	s := signers(t)["Ed25519"]
	issuer, err := NewEd25519(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	then := time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC)
	usual := x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: then, NotAfter: then.AddDate(200, 0, 0)}
	for name, change := range map[string]func(c *x509.Certificate){
		"nothing special":      func(*x509.Certificate) {},
		"expired":              func(c *x509.Certificate) { c.NotAfter = then.AddDate(0, 0, 1) },
		"not valid yet":        func(c *x509.Certificate) { c.NotBefore = then.AddDate(150, 0, 0) },
		"over before it began": func(c *x509.Certificate) { c.NotBefore, c.NotAfter = c.NotAfter, c.NotBefore },
		"the name of another":  func(c *x509.Certificate) { c.Subject.CommonName, c.DNSNames = "bank.example", []string{"bank.example"} },
		"a long serial":        func(c *x509.Certificate) { c.SerialNumber = new(big.Int).Lsh(big.NewInt(1), 150) },
		"an authority":         func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true },
		"an unknown critical extension": func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: []int{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}}}
		},
	} {
		for by, signer := range map[string]Signer{"itself": s, "another": issuer} {
			t.Run("BTNS-CORE-34 "+name+", signed by "+by, func(t *testing.T) {
				c := usual
				change(&c)
				der, err := x509.CreateCertificate(rand.Reader, &c, &c, s.Public.Crypto(), signer.Private)
				if err != nil {
					t.Fatal(err)
				}
				if k, err := FromCertificate(der); err != nil || k != s.Public {
					t.Errorf("%v, %v", k, err)
				}
			})
		}
	}
}

// Every bit of the first 132 is in the words, and a text that is not the whole fingerprint is none.
func TestFingerprintIsShownWhole(t *testing.T) {
	t.Run("BTNS-TRUST-52 never fewer than twelve words, or than all octets", func(t *testing.T) {
		var f Fingerprint
		seen := map[string]bool{f.Words(): true}
		for bit := range 132 {
			g := f
			g[bit/8] ^= 0x80 >> (bit % 8)
			words := g.Words()
			if len(strings.Fields(words)) != 12 || seen[words] {
				t.Errorf("bit %d: %s", bit, words)
			}
			seen[words] = true
		}
		text := f.String()
		for i := range text {
			if g, err := ParseFingerprint(text[:i]); err == nil {
				t.Errorf("%q is taken for %v", text[:i], g)
			}
		}
	})
	t.Run("BTNS-CORE-42 as an identity it is ID_KEY_ID of 32 octets", func(t *testing.T) {
		f := Fingerprint(repeated(7))
		if id := KeyID(f); id.Type != 11 || id.Data != string(f[:]) || len(id.Data) != 32 {
			t.Errorf("%v", id)
		}
	})
}

// FuzzKeys: nothing panics, and what is a key has one form that reads back to itself.
func FuzzKeys(f *testing.F) {
	f.Add(unhex(f, rfcEC))
	f.Add(unhex(f, rfcRSAPrefix+rfcRSAKey))
	for _, s := range signers(f) {
		der, err := SelfSigned(s, time.Unix(0, 0), rand.Reader)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(der)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, read := range []func([]byte) (PublicKey, error){ParsePublicKey, FromRSAPublicKey, FromCertificate} {
			k, err := read(b)
			if err != nil {
				continue
			}
			if again, err := ParsePublicKey(k.SPKI()); err != nil || again != k || k.Crypto() == nil {
				t.Fatalf("%x reads back as %v, %v", k.SPKI(), again, err)
			}
		}
	})
}

// What is read without the DER parser is what the DER parser reads.
func TestEd25519ByItsHead(t *testing.T) {
	signer, err := NewEd25519(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	want := signer.Public.Crypto().(ed25519.PublicKey)
	der, err := canonical(want)
	if err != nil || !isEd25519(der) {
		t.Fatalf("%x, %v", der, err)
	}
	pub, err := parseSPKI(der)
	if err != nil || !want.Equal(pub) {
		t.Fatalf("%v, %v", pub, err)
	}
	if k, err := ParsePublicKey(der); err != nil || k != signer.Public {
		t.Errorf("%v, %v", k, err)
	}
	for _, bad := range [][]byte{der[:len(der)-1], append(bytes.Clone(der), 0), append([]byte{0x31}, der[1:]...)} {
		if k, err := ParsePublicKey(bad); err == nil {
			t.Errorf("%x is %v", bad, k)
		}
	}
}
