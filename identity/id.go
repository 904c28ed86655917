package identity

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// IDType is the type of an IKE identity (RFC 7296 §3.5).
type IDType uint8

const (
	IDv4     IDType = 1
	IDFQDN   IDType = 2
	IDRFC822 IDType = 3
	IDv6     IDType = 5
	IDDN     IDType = 9
	IDKeyID  IDType = 11
	IDNull   IDType = 13 // RFC 7619 §2.2
)

var idNames = map[IDType]string{
	IDv4: "ipv4", IDFQDN: "fqdn", IDRFC822: "email", IDv6: "ipv6", IDDN: "dn", IDKeyID: "key-id", IDNull: "null",
}

// ErrID says that a text is not an identity.
var ErrID = errors.New("identity: not an identity")

// ID is what a peer asserts about itself in IKE. It proves nothing by itself (BTNS-CORE-40). It is comparable.
type ID struct {
	Type IDType
	Data string // octets as on the wire
}

// IsZero reports whether id says nothing.
func (id ID) IsZero() bool { return id == ID{} }

// Null is the identity of a peer whose key is its only name (BTNS-CORE-41).
func Null() ID { return ID{Type: IDNull} }

// KeyID is the identity for peers that refuse ID_NULL: the fingerprint (BTNS-CORE-42).
func KeyID(f Fingerprint) ID { return ID{Type: IDKeyID, Data: string(f[:])} }

// AddrID is the identity that is an address.
func AddrID(a netip.Addr) ID {
	a = a.Unmap()
	t := IDv6
	if a.Is4() {
		t = IDv4
	}
	return ID{Type: t, Data: string(a.AsSlice())}
}

// Matches reports whether the asserted identity is the wanted one: octet for octet, names of hosts without regard to
// case (RFC 4301 §4.4.3.1), distinguished names as [SameName] compares them.
func (id ID) Matches(asserted ID) bool {
	switch {
	case id.Type != asserted.Type:
		return false
	case id.Type == IDFQDN:
		return strings.EqualFold(id.Data, asserted.Data)
	case id.Type == IDDN:
		return SameName(id.Data, asserted.Data)
	}
	return id == asserted
}

const maxIDText = 128 // octets of the peer's text that are worth showing

// String shows an identity with its type, escaped and bounded: its octets are the peer's (BTNS-CORE-43). [ParseID]
// reads back names, addresses and key IDs that fit.
func (id ID) String() string {
	name, ok := idNames[id.Type]
	if !ok {
		name = fmt.Sprintf("type-%d", uint8(id.Type))
	}
	switch id.Type {
	case IDNull:
		return name
	case IDv4, IDv6:
		if a, ok := netip.AddrFromSlice([]byte(id.Data)); ok && a.Is4() == (id.Type == IDv4) {
			return name + ":" + a.String()
		}
	case IDFQDN, IDRFC822:
		return name + ":" + escape(id.Data)
	case IDDN:
		if s := distinguishedName(id.Data); s != "" {
			return name + ":" + escape(s)
		}
	}
	return name + ":" + boundedHex(id.Data)
}

func boundedHex(s string) string {
	if len(s) > maxIDText/2 {
		return hex.EncodeToString([]byte(s[:maxIDText/2])) + "..."
	}
	return hex.EncodeToString([]byte(s))
}

// escape keeps printable ASCII, so that no terminal or log takes orders from a peer.
func escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if b.Len() >= maxIDText {
			b.WriteString("...")
			break
		}
		switch c := s[i]; {
		case c == '\\' || c == '"':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ' || c > '~':
			fmt.Fprintf(&b, `\x%02x`, c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

func distinguishedName(der string) string {
	if len(der) > maxSPKI {
		return ""
	}
	var seq pkix.RDNSequence
	if rest, err := asn1.Unmarshal([]byte(der), &seq); err != nil || len(rest) != 0 {
		return ""
	}
	return seq.String()
}

// ParseID reads an identity as people write it: "host.example" or "@host.example", "192.0.2.1", "2001:db8::1",
// "user@host.example", "CN=host, O=Example" (see [ParseName]), or with its type in front, as String writes it:
// "key-id:0badcafe" (hex), "dn:..." (a name, or hex of its DER), "null".
func ParseID(s string) (ID, error) {
	if len(s) == 0 || len(s) > 1024 {
		return ID{}, fmt.Errorf("%w: %d characters", ErrID, len(s))
	}
	if s == "null" {
		return Null(), nil
	}
	if name, ok := strings.CutPrefix(s, "@"); ok {
		return nameID(IDFQDN, name)
	}
	if a, err := netip.ParseAddr(s); err == nil {
		return addrID(a, s)
	}
	if looksLikeName(s) {
		return dnID(s)
	}
	if kind, value, ok := strings.Cut(s, ":"); ok {
		return typedID(kind, value)
	}
	if strings.Contains(s, "@") {
		return nameID(IDRFC822, s)
	}
	return nameID(IDFQDN, s)
}

func typedID(kind, value string) (ID, error) {
	switch kind {
	case "fqdn":
		return nameID(IDFQDN, value)
	case "email":
		return nameID(IDRFC822, value)
	case "ipv4", "ipv6":
		a, err := netip.ParseAddr(value)
		if err != nil || a.Is4() != (kind == "ipv4") {
			return ID{}, fmt.Errorf("%w: %q is not an %s address", ErrID, value, kind)
		}
		return addrID(a, value)
	case "key-id", "dn":
		if kind == "dn" && looksLikeName(value) {
			return dnID(value)
		}
		b, err := hex.DecodeString(value)
		if err != nil || len(b) == 0 {
			return ID{}, fmt.Errorf("%w: %s wants hexadecimal octets, not %q", ErrID, kind, value)
		}
		if kind == "dn" {
			return ID{Type: IDDN, Data: string(b)}, nil
		}
		return ID{Type: IDKeyID, Data: string(b)}, nil
	}
	return ID{}, fmt.Errorf("%w: unknown type %q", ErrID, kind)
}

func dnID(text string) (ID, error) {
	der, err := ParseName(text)
	if err != nil {
		return ID{}, err
	}
	return ID{Type: IDDN, Data: der}, nil
}

func addrID(a netip.Addr, text string) (ID, error) {
	if a.Zone() != "" || a.Is4In6() {
		return ID{}, fmt.Errorf("%w: %q has a zone or is mapped", ErrID, text)
	}
	return AddrID(a), nil
}

func nameID(t IDType, name string) (ID, error) {
	if name == "" || len(name) > 255 {
		return ID{}, fmt.Errorf("%w: name of %d characters", ErrID, len(name))
	}
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c > '~' || c == '\\' || c == '"' {
			return ID{}, fmt.Errorf("%w: character %q in a name", ErrID, c)
		}
	}
	return ID{Type: t, Data: name}, nil
}
