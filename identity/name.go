package identity

import (
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Distinguished names: how they are compared (RFC 5280 §7.1), and how people write them (RFC 4514).

const (
	maxDN    = 4096 // octets
	maxParts = 64   // of a name
)

// SameName reports whether two distinguished names, in DER, are the same: part by part, text without regard to case,
// to how many blanks there are, and to the type of string that an issuer happened to choose.
func SameName(a, b string) bool {
	if a == b {
		return true
	}
	x, ok1 := partsOf(a)
	y, ok2 := partsOf(b)
	return ok1 && ok2 && slices.Equal(x, y)
}

// NameWithin reports whether a distinguished name begins with all parts of another one.
func NameWithin(name, subtree string) bool {
	have, ok1 := partsOf(name)
	want, ok2 := partsOf(subtree)
	return ok1 && ok2 && len(want) > 0 && len(have) >= len(want) && slices.Equal(have[:len(want)], want)
}

// ValidName reports whether der is a distinguished name that says something.
func ValidName(der string) bool {
	parts, ok := partsOf(der)
	return ok && len(parts) > 0
}

// partsOf brings the parts of a name into a form in which equal ones are equal octets.
func partsOf(der string) (parts []string, ok bool) {
	in := cryptobyte.String(der)
	var name cryptobyte.String
	if len(der) > maxDN || !in.ReadASN1(&name, cbasn1.SEQUENCE) || !in.Empty() {
		return nil, false
	}
	for !name.Empty() {
		var set cryptobyte.String
		if len(parts) == maxParts || !name.ReadASN1(&set, cbasn1.SET) || set.Empty() {
			return nil, false
		}
		var values []string
		for !set.Empty() {
			v, ok := valueOf(&set)
			if !ok || len(values) == maxParts {
				return nil, false
			}
			values = append(values, v)
		}
		slices.Sort(values) // the order within a part means nothing
		parts = append(parts, strings.Join(values, ""))
	}
	return parts, true
}

// valueOf reads one attribute: its type, then its value, each with its length in front.
func valueOf(in *cryptobyte.String) (string, bool) {
	var pair, oid, value cryptobyte.String
	var tag cbasn1.Tag
	if !in.ReadASN1(&pair, cbasn1.SEQUENCE) || !pair.ReadASN1(&oid, cbasn1.OBJECT_IDENTIFIER) ||
		!pair.ReadAnyASN1(&value, &tag) || !pair.Empty() {
		return "", false
	}
	text := string(value)
	switch tag {
	case cbasn1.PrintableString, cbasn1.UTF8String, cbasn1.IA5String:
		if utf8.ValidString(text) {
			tag, text = cbasn1.UTF8String, strings.ToLower(strings.Join(strings.Fields(text), " "))
		}
	}
	return fmt.Sprintf("%d:%s%d:%d:%s", len(oid), oid, tag, len(text), text), true
}

var attributes = map[string]asn1.ObjectIdentifier{
	"CN": {2, 5, 4, 3}, "SN": {2, 5, 4, 4}, "SERIALNUMBER": {2, 5, 4, 5}, "C": {2, 5, 4, 6}, "L": {2, 5, 4, 7}, "ST": {2, 5, 4, 8},
	"STREET": {2, 5, 4, 9}, "O": {2, 5, 4, 10}, "OU": {2, 5, 4, 11}, "TITLE": {2, 5, 4, 12}, "POSTALCODE": {2, 5, 4, 17}, "GN": {2, 5, 4, 42},
	"DC": {0, 9, 2342, 19200300, 100, 1, 25}, "UID": {0, 9, 2342, 19200300, 100, 1, 1},
	"E": {1, 2, 840, 113549, 1, 9, 1}, "EMAIL": {1, 2, 840, 113549, 1, 9, 1}, "EMAILADDRESS": {1, 2, 840, 113549, 1, 9, 1},
}

// looksLikeName reports whether a text begins with an attribute.
func looksLikeName(text string) bool {
	kind, _, ok := strings.Cut(text, "=")
	_, known := attributeOf(kind)
	return ok && known
}

// ParseName reads a distinguished name as RFC 4514 writes it, from the most special part to the most general one:
// "CN=gw, O=Example, C=DE". The result is DER.
func ParseName(text string) (string, error) {
	if len(text) > 1024 || !utf8.ValidString(text) {
		return "", fmt.Errorf("%w: a distinguished name of %d octets", ErrID, len(text))
	}
	var parts [][]byte
	for rest, more := text, true; more; {
		var set cryptobyte.Builder
		var err error
		set.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) {
			for plus := true; plus && err == nil; {
				rest, plus, more, err = parseAttribute(b, rest)
			}
		})
		if err != nil {
			return "", err
		}
		part, err := set.Bytes()
		if err != nil || len(parts) == maxParts {
			return "", fmt.Errorf("%w: %q is too long", ErrID, text)
		}
		parts = append(parts, part)
	}
	slices.Reverse(parts)
	var name cryptobyte.Builder
	name.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		for _, p := range parts {
			b.AddBytes(p)
		}
	})
	der, err := name.Bytes()
	if err != nil || !ValidName(string(der)) {
		return "", fmt.Errorf("%w: %q is not a distinguished name", ErrID, text)
	}
	return string(der), nil
}

// parseAttribute reads "TYPE=value" and the sign behind it: plus before another attribute of the part, more before
// another part.
func parseAttribute(b *cryptobyte.Builder, text string) (rest string, plus, more bool, err error) {
	kind, rest, ok := strings.Cut(text, "=")
	oid, known := attributeOf(kind)
	if !ok || !known {
		return "", false, false, fmt.Errorf("%w: %q is no attribute of a distinguished name such as CN, O, OU or C", ErrID, strings.TrimSpace(kind))
	}
	inHex := strings.HasPrefix(strings.TrimLeft(rest, " "), "#") // RFC 4514 §2.4: the DER of the value
	value, rest, end, err := parseValue(rest)
	if err != nil {
		return "", false, false, err
	}
	var der []byte
	if inHex {
		if der, err = hex.DecodeString(value[1:]); err != nil || !wholeElement(der) {
			return "", false, false, fmt.Errorf("%w: %q is not the hexadecimal DER of a value", ErrID, value)
		}
	}
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oid)
		if inHex {
			b.AddBytes(der)
			return
		}
		b.AddASN1(stringTag(kind, value), func(b *cryptobyte.Builder) { b.AddBytes([]byte(value)) })
	})
	return rest, end == '+', end == ',' || end == ';', nil
}

func wholeElement(der []byte) bool {
	in := cryptobyte.String(der)
	var out cryptobyte.String
	var tag cbasn1.Tag
	return in.ReadAnyASN1(&out, &tag) && in.Empty()
}

// attributeOf is the type of an attribute, by its name or in numbers.
func attributeOf(kind string) (oid asn1.ObjectIdentifier, ok bool) {
	kind = strings.TrimSpace(kind)
	if oid, ok = attributes[strings.ToUpper(kind)]; ok {
		return oid, true
	}
	for arc := range strings.SplitSeq(kind, ".") {
		n, err := strconv.ParseUint(arc, 10, 31)
		if err != nil {
			return nil, false
		}
		oid = append(oid, int(n))
	}
	var b cryptobyte.Builder
	b.AddASN1ObjectIdentifier(oid)
	_, err := b.Bytes()
	return oid, err == nil
}

// parseValue reads up to the sign that ends a value, which is 0 at the end of the text.
func parseValue(text string) (value, rest string, end byte, err error) {
	var out []byte
	keep := 0 // octets that are no blanks at the end
	text = strings.TrimLeft(text, " ")
	i := 0
	for ; i < len(text) && !strings.ContainsRune(",;+", rune(text[i])); i++ {
		switch c := text[i]; c {
		case '"', '<', '>', 0:
			return "", "", 0, fmt.Errorf("%w: %q in a distinguished name; put a backslash before it", ErrID, c)
		case '\\':
			b, n := unescape(text[i+1:])
			if n == 0 {
				return "", "", 0, fmt.Errorf("%w: a backslash in a distinguished name, before nothing that needs one", ErrID)
			}
			out, i = append(out, b), i+n
			keep = len(out)
		default:
			if out = append(out, c); c != ' ' {
				keep = len(out)
			}
		}
	}
	out = out[:keep]
	if len(out) == 0 || !utf8.Valid(out) {
		return "", "", 0, fmt.Errorf("%w: an attribute of a distinguished name is empty, or no text", ErrID)
	}
	if i < len(text) {
		end, i = text[i], i+1
	}
	return string(out), text[i:], end, nil
}

// unescape reads what stands behind a backslash (RFC 4514 §2.4), and how long it is; 0: nothing that may.
func unescape(s string) (b byte, n int) {
	if len(s) > 0 && strings.ContainsRune(` "#+,;<=>\`, rune(s[0])) {
		return s[0], 1
	}
	if len(s) > 1 {
		if x, err := hex.DecodeString(s[:2]); err == nil {
			return x[0], 2
		}
	}
	return 0, 0
}

// stringTag is the type of string that issuers use for a value.
func stringTag(kind, value string) cbasn1.Tag {
	switch strings.ToUpper(strings.TrimSpace(kind)) {
	case "DC", "E", "EMAIL", "EMAILADDRESS":
		if strings.IndexFunc(value, func(c rune) bool { return c > '~' }) < 0 {
			return cbasn1.IA5String
		}
	}
	printable := func(c rune) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune(" '()+,-./:=?", c)
	}
	if strings.IndexFunc(value, func(c rune) bool { return !printable(c) }) < 0 {
		return cbasn1.PrintableString
	}
	return cbasn1.UTF8String
}
