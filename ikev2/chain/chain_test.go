package chain_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/ikev2/chain"
	"github.com/btns-ipsec/btns/ikev2/chain/chaintest"
)

var now = chaintest.Epoch.AddDate(1, 0, 0)

func anchors(t testing.TB, list ...*chaintest.Authority) *chain.Anchors {
	t.Helper()
	var ders [][]byte
	for _, a := range list {
		ders = append(ders, a.Cert.Raw)
	}
	a, err := chain.NewAnchors(ders...)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func id(t testing.TB, text string) identity.ID {
	t.Helper()
	id, err := identity.ParseID(text)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

type edit = func(*x509.Certificate)

// What a chain proves, and what it does not, with the reason.
func TestVerify(t *testing.T) {
	root := chaintest.NewAuthority(t, "root")
	sub := root.Sub("sub")
	subSub := sub.Sub("sub sub")
	deepest := subSub.Sub("sub sub sub")
	tooDeep := deepest.Sub("too deep")
	other := chaintest.NewAuthority(t, "other")
	oldSub := root.Sub("old sub", chaintest.Until(now.AddDate(0, 0, -1)))
	noAuthority := root.Sub("no authority", func(c *x509.Certificate) { c.IsCA = false })
	mailOnly := root.Sub("mail only", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection} })
	elsewhere := root.Sub("elsewhere", func(c *x509.Certificate) {
		c.PermittedDNSDomainsCritical, c.PermittedDNSDomains = true, []string{"elsewhere.example"}
	})
	noPath := root.Sub("no path", func(c *x509.Certificate) { c.MaxPathLenZero = true })
	belowNoPath := noPath.Sub("below")
	key := chaintest.Key(t, "host")
	host := chaintest.DNS("gw.example")
	leaf := func(by *chaintest.Authority, change ...edit) []byte {
		return by.Issue(key.Public.Crypto(), append([]edit{host}, change...)...)
	}
	usage := func(u x509.KeyUsage) edit { return func(c *x509.Certificate) { c.KeyUsage = u } }
	purpose := func(known []x509.ExtKeyUsage, unknown ...asn1.ObjectIdentifier) edit {
		return func(c *x509.Certificate) { c.ExtKeyUsage, c.UnknownExtKeyUsage = known, unknown }
	}
	self := func() []byte {
		a := chaintest.NewAuthority(t, "myself", func(c *x509.Certificate) { c.IsCA = false; c.KeyUsage = x509.KeyUsageDigitalSignature; host(c) })
		return a.Cert.Raw
	}()
	critical := func(c *x509.Certificate) {
		c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}})
	}
	subject := "CN=host,O=Example"
	mail := func(c *x509.Certificate) { c.EmailAddresses = []string{"User@host.example"} }
	addrs := func(c *x509.Certificate) {
		c.IPAddresses = []net.IP{net.ParseIP("192.0.2.7"), net.ParseIP("2001:db8::7")}
	}
	noSubject := func(c *x509.Certificate) { c.Subject = pkix.Name{} }
	for _, tc := range []struct {
		name string
		sent [][]byte
		id   string // default: gw.example
		want chain.Fault
		text string // is in the error
	}{
		{name: "its own alone", sent: [][]byte{leaf(root)}},
		{name: "an intermediate", sent: [][]byte{leaf(sub), sub.Cert.Raw}},
		{name: "BTNS-CORE-32 four, and the root is not among them", sent: [][]byte{leaf(deepest), deepest.Cert.Raw, subSub.Cert.Raw, sub.Cert.Raw}},
		{name: "the root is sent as well", sent: [][]byte{leaf(sub), sub.Cert.Raw, root.Cert.Raw}},
		{name: "those above it in any order", sent: [][]byte{leaf(subSub), root.Cert.Raw, sub.Cert.Raw, subSub.Cert.Raw}},
		{name: "one too many", sent: [][]byte{leaf(tooDeep), tooDeep.Cert.Raw, deepest.Cert.Raw, subSub.Cert.Raw, sub.Cert.Raw}, want: chain.TooMany, text: "5"},
		{name: "none", want: chain.Invalid},
		{name: "the intermediate is missing", sent: [][]byte{leaf(sub)}, want: chain.UnknownIssuer, text: `issued by "CN=sub,O=Example"`},
		{name: "another authority", sent: [][]byte{leaf(other), other.Cert.Raw}, want: chain.UnknownIssuer, text: `"CN=other,O=Example" is signed by itself`},
		{name: "another authority, not sent", sent: [][]byte{leaf(other)}, want: chain.UnknownIssuer, text: `"CN=other,O=Example"`},
		{name: "a forged signature of the right name", sent: [][]byte{leaf(root.Imitation())}, want: chain.UnknownIssuer, text: "has not issued it"},
		{name: "signed by itself", sent: [][]byte{self}, want: chain.UnknownIssuer, text: "signed by itself"},
		{name: "signed by itself, with the root behind it", sent: [][]byte{self, root.Cert.Raw}, want: chain.UnknownIssuer},
		{name: "its own is not first", sent: [][]byte{sub.Cert.Raw, leaf(sub)}, want: chain.Misordered, text: "sub"},
		{name: "an authority is no host", sent: [][]byte{root.Cert.Raw}, id: "CN=root,O=Example", want: chain.Misordered},
		{name: "issued by what is no authority", sent: [][]byte{leaf(noAuthority), noAuthority.Cert.Raw}, want: chain.UnknownIssuer, text: "is no authority"},
		{name: "an authority that may have none below it", sent: [][]byte{leaf(belowNoPath), belowNoPath.Cert.Raw, noPath.Cert.Raw}, want: chain.Invalid},
		{name: "a name that its authority may not give", sent: [][]byte{leaf(elsewhere), elsewhere.Cert.Raw}, want: chain.Invalid},
		{name: "expired", sent: [][]byte{leaf(root, chaintest.Until(now.AddDate(0, 0, -1)))}, want: chain.Expired, text: "until 2029-12-31"},
		{name: "not valid yet", sent: [][]byte{leaf(root, func(c *x509.Certificate) { c.NotBefore = now.AddDate(0, 1, 0) })}, want: chain.NotYetValid, text: "from 2030-02-01"},
		{name: "an expired intermediate", sent: [][]byte{leaf(oldSub), oldSub.Cert.Raw}, want: chain.Expired, text: "old sub"},
		{name: "damaged", sent: [][]byte{leaf(root)[:200]}, want: chain.Invalid},
		{name: "a damaged one above it", sent: [][]byte{leaf(root), {0x30, 0}}, want: chain.Invalid},
		{name: "endless", sent: [][]byte{make([]byte, 17<<10)}, want: chain.Invalid, text: "17408"},
		{name: "an unknown critical extension", sent: [][]byte{leaf(root, critical)}, want: chain.Invalid, text: "critical"},

		{name: "key usage: none", sent: [][]byte{leaf(root, usage(0))}},
		{name: "key usage: nonRepudiation", sent: [][]byte{leaf(root, usage(x509.KeyUsageContentCommitment))}},
		{name: "key usage: keyEncipherment only", sent: [][]byte{leaf(root, usage(x509.KeyUsageKeyEncipherment))}, want: chain.NotForIKE, text: "may not sign"},
		{name: "purpose: IKE", sent: [][]byte{leaf(root, purpose(nil, asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 17}))}},
		{name: "purpose: IKE intermediate", sent: [][]byte{leaf(root, purpose(nil, asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 8, 2, 2}))}},
		{name: "purpose: any", sent: [][]byte{leaf(root, purpose([]x509.ExtKeyUsage{x509.ExtKeyUsageAny}))}},
		{name: "purpose: TLS", sent: [][]byte{leaf(root, purpose([]x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}))}},
		{name: "purpose: code", sent: [][]byte{leaf(root, purpose([]x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}))}, want: chain.NotForIKE, text: "something else"},
		{name: "purpose: unknown", sent: [][]byte{leaf(root, purpose(nil, asn1.ObjectIdentifier{1, 2, 3}))}, want: chain.NotForIKE},
		{name: "purpose of the authority: mail", sent: [][]byte{leaf(mailOnly), mailOnly.Cert.Raw}, want: chain.NotForIKE, text: "authority between"},

		{name: "FQDN in other letters", sent: [][]byte{leaf(root)}, id: "GW.Example"},
		{name: "FQDN of another host", sent: [][]byte{leaf(root)}, id: "gw2.example", want: chain.OtherID, text: "about fqdn:gw.example, dn:CN=host,O=Example, and not about fqdn:gw2.example"},
		{name: "FQDN below the one that it has", sent: [][]byte{leaf(root)}, id: "a.gw.example", want: chain.OtherID},
		{name: "FQDN by a wildcard", sent: [][]byte{leaf(root, chaintest.DNS("*.example"))}, id: "x.example", want: chain.OtherID},
		{name: "FQDN that is a wildcard", sent: [][]byte{leaf(root, chaintest.DNS("*.example"))}, id: "*.example", want: chain.OtherID},
		{name: "FQDN that is the common name only", sent: [][]byte{leaf(root)}, id: "host", want: chain.OtherID},
		{name: "mail address", sent: [][]byte{leaf(root, mail)}, id: "User@HOST.example"},
		{name: "mail address of another user", sent: [][]byte{leaf(root, mail)}, id: "user@host.example", want: chain.OtherID},
		{name: "mail address as host name", sent: [][]byte{leaf(root, mail)}, id: "host.example", want: chain.OtherID},
		{name: "IPv4 address", sent: [][]byte{leaf(root, addrs)}, id: "192.0.2.7"},
		{name: "another IPv4 address", sent: [][]byte{leaf(root, addrs)}, id: "192.0.2.8", want: chain.OtherID},
		{name: "IPv6 address", sent: [][]byte{leaf(root, addrs)}, id: "2001:db8::7"},
		{name: "another IPv6 address", sent: [][]byte{leaf(root, addrs)}, id: "2001:db8::8", want: chain.OtherID},
		{name: "address written as a host name", sent: [][]byte{leaf(root, chaintest.DNS("192.0.2.9"))}, id: "192.0.2.9", want: chain.OtherID},
		{name: "subject", sent: [][]byte{leaf(root)}, id: subject},
		{name: "part of the subject", sent: [][]byte{leaf(root)}, id: "O=Example", want: chain.OtherID},
		{name: "the subject and more", sent: [][]byte{leaf(root)}, id: "CN=x," + subject, want: chain.OtherID},
		{name: "no subject", sent: [][]byte{leaf(root, noSubject)}},
		{name: "key ID", sent: [][]byte{leaf(root)}, id: "key-id:67772e6578616d706c65", want: chain.OtherID},
		{name: "no ID", sent: [][]byte{leaf(root)}, id: "null", want: chain.OtherID},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.id == "" {
				tc.id = "gw.example"
			}
			v, err := anchors(t, root).Verify(tc.sent, id(t, tc.id), now)
			if tc.want == "" {
				if err != nil || v.Key != key.Public || v.Issuer != `"CN=root,O=Example"` || !anchors(t, root).Holds(v.Anchor) || anchors(t, other).Holds(v.Anchor) || !v.Until.Equal(chaintest.End) {
					t.Errorf("%+v, %v", v, err)
				}
				return
			}
			var e *chain.Error
			if !errors.As(err, &e) || e.Fault != tc.want || !strings.Contains(err.Error(), tc.text) || v != (chain.Verified{}) {
				t.Errorf("%+v, %v; want %v with %q", v, err, tc.want, tc.text)
			}
		})
	}
}

// A chain holds until the first of its certificates ends, the authority's own included.
func TestUntil(t *testing.T) {
	soon, later := now.AddDate(0, 1, 0), now.AddDate(0, 2, 0)
	key := chaintest.Key(t, "host").Public.Crypto()
	for name, ends := range map[string][3]time.Time{"root": {soon, later, later}, "sub": {later, soon, later}, "host": {later, later, soon}} {
		root := chaintest.NewAuthority(t, "root", chaintest.Until(ends[0]))
		sub := root.Sub("sub", chaintest.Until(ends[1]))
		sent := [][]byte{sub.Issue(key, chaintest.DNS("gw.example"), chaintest.Until(ends[2])), sub.Cert.Raw}
		a := anchors(t, root)
		if v, err := a.Verify(sent, id(t, "gw.example"), now); err != nil || !v.Until.Equal(soon) {
			t.Errorf("%s: until %v, %v", name, v.Until, err)
		}
		var e *chain.Error
		if _, err := a.Verify(sent, id(t, "gw.example"), soon.Add(time.Second)); !errors.As(err, &e) || e.Fault != chain.Expired || !strings.Contains(e.Text, "CN="+name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Nobody vouches where nobody is named, and without a time nothing is valid.
func TestVerifyByNobody(t *testing.T) {
	root := chaintest.NewAuthority(t, "root")
	sent := [][]byte{root.Issue(chaintest.Key(t, "host").Public.Crypto(), chaintest.DNS("gw.example"))}
	empty, _ := chain.NewAnchors()
	for name, a := range map[string]*chain.Anchors{"nil": nil, "empty": empty, "joined of none": chain.Join(nil, empty)} {
		if _, err := a.Verify(sent, id(t, "gw.example"), now); err == nil {
			t.Errorf("%s: verified", name)
		}
		if a.Len() != 0 || a.Names() != nil || a.Hashes(5) != nil || a.Expired(now) != nil || a.Holds(chain.AnchorID{}) {
			t.Errorf("%s: has an authority", name)
		}
	}
	if _, err := anchors(t, root).Verify(sent, id(t, "gw.example"), time.Time{}); err == nil {
		t.Error("verified without a time")
	}
}

func TestAnchors(t *testing.T) {
	a, b := chaintest.NewAuthority(t, "a"), chaintest.NewAuthority(t, "b", chaintest.Until(now.AddDate(0, 0, -1)))
	all := chain.Join(anchors(t, a), nil, anchors(t, b, a))
	if all.Len() != 2 || strings.Join(all.Names(), " ") != `"CN=a,O=Example" "CN=b,O=Example"` {
		t.Errorf("%v", all.Names())
	}
	sum := sha1.Sum(a.Cert.RawSubjectPublicKeyInfo) // RFC 7296 §3.7
	if h := all.Hashes(9); len(h) != 40 || string(h[:20]) != string(sum[:]) || len(all.Hashes(1)) != 20 {
		t.Errorf("%x", h)
	}
	if e := all.Expired(now); len(e) != 1 || !strings.Contains(e[0], "CN=b") {
		t.Errorf("%q", e)
	}
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	for name, der := range map[string][]byte{
		"no authority": a.Issue(chaintest.Key(t, "host").Public.Crypto()),
		"no DER":       []byte("x"),
		"a weak key":   a.Issue(&small.PublicKey, func(c *x509.Certificate) { c.IsCA = true }),
	} {
		var e *chain.Error
		if _, err := chain.NewAnchors(der); !errors.As(err, &e) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What this host shows of itself is looked at as a peer would.
func TestOwn(t *testing.T) {
	root := chaintest.NewAuthority(t, "root")
	sub := root.Sub("sub")
	key := chaintest.Key(t, "host")
	leaf := func(by *chaintest.Authority, change ...edit) []byte { return by.Issue(key.Public.Crypto(), change...) }
	good := [][]byte{leaf(sub, chaintest.DNS("gw.example")), sub.Cert.Raw}
	o, err := chain.NewOwn(good)
	if err != nil || o.Key != key.Public || o.ID() != id(t, "gw.example") || len(o.DER()) != 2 || !o.About(id(t, "CN=host,O=Example")) || o.About(id(t, "x.example")) {
		t.Fatalf("%+v, %v", o, err)
	}
	if e := o.Expired(now); e != nil {
		t.Errorf("%q", e)
	}
	if e := o.Expired(chaintest.End.Add(time.Second)); len(e) != 2 {
		t.Errorf("%q", e)
	}
	if o, err := chain.NewOwn([][]byte{leaf(sub, chaintest.DNS("*.example"))}); err != nil || o.ID() != id(t, "CN=host,O=Example") || !strings.Contains(o.Names(), "*.example") {
		t.Errorf("a wildcard is no name: %v, %v", o.ID(), err)
	}
	for _, tc := range []struct {
		name string
		sent [][]byte
		want chain.Fault
	}{
		{"nothing", nil, chain.Invalid},
		{"its own is not first", [][]byte{sub.Cert.Raw, good[0]}, chain.Misordered},
		{"one that did not issue it", [][]byte{good[0], root.Cert.Raw}, chain.Misordered},
		{"it may not sign", [][]byte{leaf(root, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyAgreement })}, chain.NotForIKE},
		{"it is about nobody", [][]byte{leaf(root, func(c *x509.Certificate) { c.Subject = pkix.Name{} })}, chain.OtherID},
		{"too many", [][]byte{good[0], sub.Cert.Raw, root.Cert.Raw, root.Cert.Raw, root.Cert.Raw}, chain.TooMany},
	} {
		var e *chain.Error
		if o, err := chain.NewOwn(tc.sent); !errors.As(err, &e) || e.Fault != tc.want {
			t.Errorf("%s: %v, %v", tc.name, o, err)
		}
	}
}

// What a peer writes into its certificate reaches nobody's terminal.
func TestTextsAreSafe(t *testing.T) {
	root := chaintest.NewAuthority(t, "root")
	evil := chaintest.NewAuthority(t, "evil\x1b[2J\n"+strings.Repeat("x", 3000))
	key := chaintest.Key(t, "host").Public.Crypto()
	for _, sent := range [][][]byte{
		{evil.Issue(key, chaintest.DNS("gw.example"))},
		{evil.Cert.Raw},
		{root.Issue(key, func(c *x509.Certificate) { c.Subject.CommonName = "a\x07\n" })},
	} {
		_, err := anchors(t, root).Verify(sent, id(t, "gw.example"), now)
		if err == nil || len(err.Error()) > 700 || strings.ContainsFunc(err.Error(), func(c rune) bool { return c < ' ' || c > '~' }) {
			t.Errorf("%q", err)
		}
	}
}

// FuzzVerify: no octets panic or prove anything that the authority did not issue, in any place of a chain.
func FuzzVerify(f *testing.F) {
	root := chaintest.NewAuthority(f, "root")
	sub := root.Sub("sub")
	leaf := sub.Issue(chaintest.Key(f, "host").Public.Crypto(), chaintest.DNS("gw.example"))
	a := anchors(f, root)
	want := id(f, "gw.example")
	f.Add(leaf, byte(0))
	f.Add(sub.Cert.Raw, byte(1))
	f.Add(chaintest.NewAuthority(f, "other").Issue(chaintest.Key(f, "x").Public.Crypto(), chaintest.DNS("gw.example")), byte(0))
	f.Fuzz(func(t *testing.T, der []byte, at byte) {
		sent := [][]byte{leaf, sub.Cert.Raw}
		genuine := string(sent[at%2]) == string(der)
		sent[at%2] = der
		v, err := a.Verify(sent, want, now)
		var e *chain.Error
		if err != nil && !errors.As(err, &e) {
			t.Fatalf("%T", err)
		}
		if at%2 == 0 && err == nil && !genuine && v.Key != chaintest.Key(t, "host").Public {
			t.Fatal("a key that nobody certified")
		}
		_, _ = chain.NewOwn(sent)
		_, _ = chain.NewAnchors(der)
	})
}
