package chain

import (
	"crypto/x509"
	"net/netip"
	"strings"

	"github.com/btns-ipsec/btns/identity"
)

// maxNames is how many names of a certificate are looked at.
const maxNames = 128

// namesOf are the identities that a certificate is about: what stands in its subjectAltName, then its subject
// (RFC 4945 §3.1).
func namesOf(c *x509.Certificate) (ids []identity.ID) {
	for _, n := range c.DNSNames {
		ids = append(ids, identity.ID{Type: identity.IDFQDN, Data: n})
	}
	for _, n := range c.EmailAddresses {
		ids = append(ids, identity.ID{Type: identity.IDRFC822, Data: n})
	}
	for _, n := range c.IPAddresses {
		if a, ok := netip.AddrFromSlice(n); ok {
			ids = append(ids, identity.ID{Type: addressType(a), Data: string(n)})
		}
	}
	if identity.ValidName(string(c.RawSubject)) {
		ids = append(ids, identity.ID{Type: identity.IDDN, Data: string(c.RawSubject)})
	}
	return ids[:min(len(ids), maxNames)]
}

func addressType(a netip.Addr) identity.IDType {
	if a.Is4() {
		return identity.IDv4
	}
	return identity.IDv6
}

// about reports whether a certificate names an identity. A name with a wildcard in it names nobody (RFC 4945 §3.1.2), and
// the common name is no name of a host.
func about(c *x509.Certificate, id identity.ID) bool {
	if id.Data == "" || id.Type == identity.IDFQDN && strings.Contains(id.Data, "*") {
		return false
	}
	for _, n := range namesOf(c) {
		if matches(n, id) {
			return true
		}
	}
	return false
}

// matches compares a name in a certificate with an identity. Of mail addresses the part before the @ is compared octet for
// octet (RFC 5280 §7.5).
func matches(n, id identity.ID) bool {
	if n.Type != identity.IDRFC822 || id.Type != identity.IDRFC822 {
		return n.Matches(id)
	}
	user, host, ok := strings.Cut(n.Data, "@")
	otherUser, otherHost, otherOK := strings.Cut(id.Data, "@")
	return ok && otherOK && user == otherUser && strings.EqualFold(host, otherHost)
}

// namesText shows what a certificate is about.
func namesText(c *x509.Certificate) string {
	const most = 4
	var texts []string
	for _, n := range namesOf(c) {
		if len(texts) == most {
			texts = append(texts, "...")
			break
		}
		texts = append(texts, n.String())
	}
	if len(texts) == 0 {
		return "nobody"
	}
	return strings.Join(texts, ", ")
}
