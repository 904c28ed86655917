package identity

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
)

// What people write means the name that issuers encode: the part that they write last comes first.
func TestParseName(t *testing.T) {
	for _, tc := range []struct{ in, shown string }{
		{"CN=gw", "CN=gw"},
		{"CN=gw, O=Example, C=DE", "CN=gw,O=Example,C=DE"},
		{`CN=a\, b,O=c`, `CN=a\, b,O=c`},
		{"CN=a+OU=b,O=c", "CN=a+OU=b,O=c"},
		{"cn = gw ; o= Example ", "CN=gw,O=Example"},
		{`CN=\C3\A4`, ""},
		{"2.5.4.3=gw", "CN=gw"},
		{"CN=#0c026777", "CN=gw"},
		{`CN=\#0c026777`, `CN=\#0c026777`},
		{"E=a@b.example,CN=x", ""},
	} {
		der, err := ParseName(tc.in)
		if err != nil {
			t.Errorf("%q: %v", tc.in, err)
			continue
		}
		var seq pkix.RDNSequence
		if rest, err := asn1.Unmarshal([]byte(der), &seq); err != nil || len(rest) > 0 || tc.shown != "" && seq.String() != tc.shown {
			t.Errorf("%q: %q, %v", tc.in, seq.String(), err)
		}
	}
	if der, err := ParseName("CN=gw, C=DE"); err != nil || hex.EncodeToString([]byte(der)) != "301a310b3009060355040613024445310b300906035504031302"+hex.EncodeToString([]byte("gw")) {
		t.Errorf("%x, %v", der, err)
	}
	for _, bad := range []string{
		"", "CN", "CN=", "CN=a,", "CN=a,,O=b", "=a", "XX=a", `CN=a\`, `CN=a\x`, `CN="a"`, "CN=#zz", "CN=#0c0267", "CN=\xff", "CN=a+", "5.=a", "1.2.=a",
		"9999999999.1=a", strings.Repeat("CN=a,", 65) + "CN=a", "CN=" + strings.Repeat("a", 2000),
	} {
		if der, err := ParseName(bad); !errors.Is(err, ErrID) {
			t.Errorf("%q: %x, %v", bad, der, err)
		}
	}
}

// RFC 5280 §7.1: names are the same whatever strings an issuer chose for them, and not beyond that.
func TestSameName(t *testing.T) {
	name := func(text string) string {
		der, err := ParseName(text)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	for _, tc := range []struct {
		name, a, b string
		same, in   bool // b is within a
	}{
		{"as they are", "CN=gw,O=x", "CN=gw,O=x", true, true},
		{"another type of string", "CN=#13026777,O=x", "CN=#0c026777,O=x", true, true},
		{"capitals and blanks", "CN=My  Gate,O=x", "CN=my gate,O=X", true, true},
		{"the order within a part", "CN=a+OU=b", "OU=b+CN=a", true, true},
		{"the order of parts", "CN=a,O=b", "O=b,CN=a", false, false},
		{"another attribute", "CN=a", "OU=a", false, false},
		{"a part more", "O=b", "CN=a,O=b", false, true},
		{"a part less", "CN=a,O=b", "O=b", false, false},
		{"one part that looks like two", `CN=a\,O=b`, "CN=a,O=b", false, false},
		{"two attributes in a part are not one", "CN=a+OU=b", "CN=a", false, false},
		{"octets that are no text", "CN=#03020101", "CN=#04020101", false, false},
	} {
		a, b := name(tc.a), name(tc.b)
		if SameName(a, b) != tc.same || SameName(b, a) != tc.same || (ID{IDDN, a}).Matches(ID{IDDN, b}) != tc.same {
			t.Errorf("%s: not %v", tc.name, tc.same)
		}
		if NameWithin(b, a) != tc.in {
			t.Errorf("%s: within is not %v", tc.name, tc.in)
		}
	}
	for _, broken := range []string{"", "\x30", "\x30\x80", "\x31\x00", "\x30\x02\x31\x00", "\x30\x04\x31\x02\x30\x00", name("CN=a") + "x"} {
		if SameName(broken, name("CN=a")) || NameWithin(broken, name("CN=a")) || NameWithin(name("CN=a"), broken) || ValidName(broken) {
			t.Errorf("%x is a name", broken)
		}
	}
	if NameWithin(name("CN=a"), "\x30\x00") || ValidName("\x30\x00") {
		t.Error("everything is within nothing")
	}
}

// A distinguished name is told from other identities by how it begins.
func TestParseIDOfNames(t *testing.T) {
	for in, want := range map[string]IDType{
		"CN=gw, O=Example": IDDN, "dn:CN=gw": IDDN, "E=a@b.example,CN=x": IDDN, "O=a:b": IDDN, "a=b@c.example": IDRFC822, "email:CN=x@y.example": IDRFC822,
	} {
		if id, err := ParseID(in); err != nil || id.Type != want {
			t.Errorf("%q: %v, %v", in, id, err)
		}
	}
	id, _ := ParseID("CN=gw,O=Example")
	if back, err := ParseID(id.String()); err != nil || back != id {
		t.Errorf("%v reads back as %v, %v", id, back, err)
	}
}

// FuzzName: no text and no octets panic, what parses is a name that is the same as itself, and what is shown of it, read back,
// is the same as well.
func FuzzName(f *testing.F) {
	f.Add("CN=gw, O=Example+OU=x, C=DE", []byte("\x30\x0d\x31\x0b\x30\x09\x06\x03\x55\x04\x03\x0c\x02gw"))
	f.Add(`1.2.3=#0c026777;CN=\41\,`, []byte("\x30\x80"))
	f.Fuzz(func(t *testing.T, text string, octets []byte) {
		NameWithin(string(octets), string(octets))
		der, err := ParseName(text)
		if err != nil {
			return
		}
		if !ValidName(der) || !SameName(der, der) || !NameWithin(der, der) || SameName(der, string(octets)) != SameName(string(octets), der) {
			t.Fatalf("%q: %x", text, der)
		}
	})
}
