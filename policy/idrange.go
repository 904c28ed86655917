package policy

import (
	"net/netip"
	"strings"

	"github.com/btns-ipsec/btns/identity"
)

// IDRange is more IDs than one (RFC 4301 §4.4.3.1), of one type: names in a domain, addresses in a prefix, distinguished
// names in a subtree. One of the fields is set.
type IDRange struct {
	Domain  string       // ".example.com": FQDNs below it; "@example.com": mail addresses in it
	Prefix  netip.Prefix // addresses
	Subtree string       // DER of a distinguished name: the names that begin with all of it, compared as identity.SameName does
}

// IsZero reports whether the range has no IDs.
func (r IDRange) IsZero() bool { return r == IDRange{} }

// String shows a range as the configuration has it.
func (r IDRange) String() string {
	switch {
	case r.Domain != "":
		return "*" + r.Domain
	case r.Subtree != "":
		return "*," + strings.TrimPrefix(identity.ID{Type: identity.IDDN, Data: r.Subtree}.String(), "dn:")
	}
	return r.Prefix.String()
}

// Matches reports whether an asserted ID lies within the range.
func (r IDRange) Matches(id identity.ID) bool {
	switch id.Type {
	case identity.IDFQDN:
		return strings.HasPrefix(r.Domain, ".") && endsIn(id.Data, r.Domain)
	case identity.IDRFC822:
		return strings.HasPrefix(r.Domain, "@") && endsIn(id.Data, r.Domain)
	case identity.IDv4, identity.IDv6:
		a, ok := netip.AddrFromSlice([]byte(id.Data))
		return ok && a.Is4() == (id.Type == identity.IDv4) && r.Prefix.Contains(a)
	case identity.IDDN:
		return r.Subtree != "" && identity.NameWithin(id.Data, r.Subtree)
	case identity.IDKeyID, identity.IDNull:
	}
	return false
}

// endsIn reports whether a name has something in front of the domain.
func endsIn(name, domain string) bool {
	n := len(name) - len(domain)
	return n > 0 && strings.EqualFold(name[n:], domain)
}

// valid reports whether exactly one kind of IDs is meant.
func (r IDRange) valid() bool {
	kinds := 0
	if r.Domain != "" {
		kinds++
		if len(r.Domain) < 2 || r.Domain[0] != '.' && r.Domain[0] != '@' {
			return false
		}
	}
	if r.Prefix != (netip.Prefix{}) {
		kinds++
		if !r.Prefix.IsValid() || r.Prefix != r.Prefix.Masked() || r.Prefix.Addr().Is4In6() {
			return false
		}
	}
	if r.Subtree != "" {
		kinds++
		if !identity.ValidName(r.Subtree) {
			return false
		}
	}
	return kinds == 1
}
