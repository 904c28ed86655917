package config

import (
	"encoding/pem"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/btns-ipsec/btns/host"
	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/ikev2/chain"
	"github.com/btns-ipsec/btns/policy"
)

// certifies reads what a peer with auth "x509" has to show, and what it is shown.
func (r *reader) certifies(key string, f *filePeer, p *Peer) {
	ca, at := f.CA, key+".ca"
	if ca == nil {
		ca, at = r.x509.CA, "x509.ca"
	}
	for _, name := range r.fileNames(at, ca) {
		if r.anchorFile(at, name) {
			p.Anchors = append(p.Anchors, name)
		}
	}
	if ca == nil {
		r.fail(key+".ca", `it is missing: a PEM file with the certificate of the authority that certifies this peer; [x509] may name one for all`)
	}
	if p.RemoteID.IsZero() && p.IDs.IsZero() && f.ID == "" {
		r.fail(key+".id", `it is missing: what the certificate of the peer has to name; write for instance "vpn.example.org", "*.staff.example.org" or "CN=gw, O=Example"`)
	}
	own, given := r.certified, r.x509.Certificate+r.x509.OwnKey != ""
	if f.Certificate+f.OwnKey != "" {
		own, given = r.ownChain(key, f.Certificate, f.OwnKey), true
	}
	switch {
	case !given:
		p.SendKey = true // we show the host's key, as to anybody else
	case own.Own == nil: // it has been told why
	case !p.LocalID.IsZero() && !own.Own.About(p.LocalID):
		r.fail(key+".local_id", "the certificate is about %s, and not about %v: the peer would refuse it", own.Own.Names(), p.LocalID)
	default:
		p.own, p.Key, p.OwnKey = own.Own, own.Key, true
		p.Cert, p.Above = own.Own.DER()[0], own.Own.DER()[1:]
	}
}

// fileNames reads one name of a file or several.
func (r *reader) fileNames(key string, v any) (names []string) {
	list, ok := v.([]any)
	if !ok && v != nil {
		list = []any{v}
	}
	for _, x := range list {
		name, ok := x.(string)
		if !ok || name == "" {
			r.fail(key, "%v is not a file; write the name of a PEM file", x)
			continue
		}
		names = append(names, name)
	}
	if ok && len(list) == 0 {
		r.fail(key, "an empty list is no authority at all; name a PEM file")
	}
	return names
}

// anchorFile reads authorities, once for each file.
func (r *reader) anchorFile(key, name string) bool {
	if a, ok := r.anchors[name]; ok {
		return a != nil
	}
	r.anchors[name] = nil
	text, ok := r.open(key, name)
	if !ok {
		return false
	}
	ders, err := certificates(text)
	if err != nil {
		r.fail(key, "%s: %v; write a PEM file with the certificate of an authority", name, err)
		return false
	}
	a, err := chain.NewAnchors(ders...)
	if err != nil {
		r.fail(key, "%s: %s", name, reasonOf(err))
		return false
	}
	for _, text := range a.Expired(r.now) {
		r.warnings = append(r.warnings, fmt.Sprintf("%s%s: %s", r.place(key), name, text))
	}
	r.anchors[name] = a
	return true
}

// ownChain reads our certificate, those above it, and its key.
func (r *reader) ownChain(at, certificate, ownKey string) (c host.Certified) {
	switch {
	case certificate == "":
		r.fail(at+".certificate", "own_key needs it beside it: the certificate of that key, and those above it")
		return c
	case ownKey == "":
		r.fail(at+".own_key", "certificate needs it beside it: the private key of the certificate")
		return c
	}
	at += ".certificate"
	s, ok := r.privateKey(strings.TrimSuffix(at, "certificate")+"own_key", ownKey)
	text, read := r.open(at, certificate)
	if !read {
		return c
	}
	ders, err := certificates(text)
	if err != nil {
		r.fail(at, "%s: %v; write a PEM file with our certificate, and behind it those that issued it", certificate, err)
		return c
	}
	own, err := chain.NewOwn(ders)
	switch {
	case err != nil:
		r.fail(at, "%s: %s", certificate, reasonOf(err))
	case ok && own.Key != s.Public:
		r.fail(at, "%s is of the key %v, own_key is %v", certificate, own.Key, s.Public)
	case ok:
		for _, text := range own.Expired(r.now) {
			r.warnings = append(r.warnings, fmt.Sprintf("%s%s: %s", r.place(at), certificate, text))
		}
		return host.Certified{Own: own, Key: s}
	}
	return c
}

// reasonOf is what is wrong with certificates, without the name of the package that found it.
func reasonOf(err error) string { return strings.TrimPrefix(err.Error(), "chain: ") }

func (r *reader) place(key string) string {
	if at := r.source(key); at != "" {
		return at + ": "
	}
	return ""
}

// certificates returns all certificates of a PEM text, as DER.
func certificates(text []byte) (ders [][]byte, err error) {
	const most = 512 // a bundle of public authorities has about 150
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if block.Type == "CERTIFICATE" {
			ders = append(ders, block.Bytes)
		}
		if len(ders) > most {
			return nil, fmt.Errorf("it has more than %d certificates", most)
		}
	}
	if len(ders) == 0 {
		return nil, errNoCertificate
	}
	return ders, nil
}

// remoteID reads what a peer calls itself: one identity, or a range of them.
func (r *reader) remoteID(key, text string, p *Peer) {
	ids, isRange, err := idRange(text)
	switch {
	case !isRange:
		p.RemoteID = r.id(key, text)
	case err != nil:
		r.fail(key, `%v; write for instance "*.example.org", "*@example.org", "192.0.2.0/24" or "*, O=Example, C=DE"`, err)
	case p.Auth != X509 && p.Auth != PSK && p.Auth != 0:
		r.fail(key, `a range of identities needs auth "x509" or "psk": a key is one peer's`)
	default:
		p.IDs = ids
	}
}

// idRange reads a range of identities, and reports whether it is meant as one.
func idRange(text string) (r policy.IDRange, meant bool, err error) {
	switch {
	case strings.HasPrefix(text, "*.") || strings.HasPrefix(text, "*@"):
		var id identity.ID
		if id, err = identity.ParseID("x" + text[1:]); err == nil {
			r.Domain = id.Data[1:]
		}
		return r, true, err
	case strings.HasPrefix(text, "*"):
		name, err := identity.ParseName(strings.TrimLeft(strings.TrimPrefix(strings.TrimSpace(text[1:]), ","), " "))
		return policy.IDRange{Subtree: name}, true, err
	case strings.Contains(text, "/") && !strings.ContainsAny(text, "=@"):
		p, err := netip.ParsePrefix(text)
		if err == nil && p != p.Masked() {
			err = fmt.Errorf("%q has bits set behind the prefix length", text)
		}
		return policy.IDRange{Prefix: p}, true, err
	}
	return r, false, nil
}

// backwards reports whether a distinguished name is written from its most general part on, as openssl shows it.
func backwards(text string) bool {
	first, rest, _ := strings.Cut(strings.ToUpper(strings.ReplaceAll(text, " ", "")), ",")
	general := strings.HasPrefix(first, "C=") || strings.HasPrefix(first, "DC=") || strings.HasPrefix(first, "O=")
	return general && (strings.Contains(","+rest, ",CN=") || strings.Contains(","+rest, ",UID="))
}

// nowhere reads a peer that has no address: it may come from anywhere, and is known by what it proves to be.
func (r *reader) nowhere(key string, f *filePeer, p *Peer) {
	if p.Auth != X509 && p.Auth != PSK {
		r.fail(key+".address", "it is missing; write the address that IKE is spoken with")
		return
	}
	if f.ID == "" {
		r.fail(key+".address", "it is missing, and so is id: the peer needs one of them, to be told from others")
	}
	for name, given := range map[string]bool{
		"local_address": f.LocalAddress != "", "mode": f.Mode != "", "local": f.Local != nil, "remote": f.Remote != nil, "ike": f.IKE != nil,
		"esp": f.ESP != nil, "rekey": f.Rekey != "", "lifetime": f.Lifetime != "", "start": f.Start != "", "childless": f.Childless,
		"dscp": f.DSCP != nil, "ecn": f.ECN != "",
	} {
		if given {
			r.fail(key+"."+name, "it needs address beside it: peers that come from anywhere are treated as [[policy]] and [default] say")
		}
	}
	if p.Auth == PSK && !p.IDs.IsZero() {
		r.warnings = append(r.warnings, fmt.Sprintf("%speer %q: whoever has this shared secret can be any of %v", r.place(key), p.Name, p.IDs))
	}
	p.Start = Listen
}

// unusedX509 finds authorities that certify nobody.
func (r *reader) unusedX509(peers []Peer) {
	if r.x509.CA != nil && !slices.ContainsFunc(peers, func(p Peer) bool { return p.Auth == X509 }) {
		r.fail("x509.ca", `no [[peer]] has auth = "x509", so it certifies nobody; remove it`)
	}
}
