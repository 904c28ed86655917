package ikev2

import (
	"bytes"
	"crypto/x509"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/ikev2/chain"
	"github.com/btns-ipsec/btns/ikev2/chain/chaintest"
	"github.com/btns-ipsec/btns/ikev2/wire"
)

// office is an authority, one below it, and a host.
type office struct {
	root, sub *chaintest.Authority
	key       identity.Signer
	anchors   *chain.Anchors
}

func newOffice(t testing.TB) office {
	t.Helper()
	o := office{root: chaintest.NewAuthority(t, "root"), key: chaintest.Key(t, "host")}
	o.sub = o.root.Sub("sub")
	var err error
	if o.anchors, err = chain.NewAnchors(o.root.Cert.Raw); err != nil {
		t.Fatal(err)
	}
	return o
}

// host is how a host of the office shows itself: id, and its certificates.
func (o office) host(id identity.ID, certs ...[]byte) Local {
	return Local{ID: id, Method: Signature, Key: o.key, Certificate: certs[0], Above: certs[1:]}
}

var addrC = netip.MustParseAddr("192.0.2.3")

func fqdn(name string) identity.ID { return identity.ID{Type: identity.IDFQDN, Data: name} }

// Certificates prove an identity in either role, or do not, with the reason and AUTHENTICATION_FAILED (RFC 7296 §2.21.2). What
// is wrong with each kind of chain stands in the tests of package chain.
func TestCertificates(t *testing.T) {
	o := newOffice(t)
	other := chaintest.NewAuthority(t, "other")
	pub := o.key.Public.Crypto()
	gw := chaintest.DNS("gw.example")
	leaf := o.sub.Issue(pub, gw)
	at := func(a net.IP) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.IPAddresses = []net.IP{a} }
	}
	subject, err := identity.SubjectID(leaf)
	if err != nil {
		t.Fatal(err)
	}
	mail := identity.ID{Type: identity.IDRFC822, Data: "user@gw.example"}
	self := chaintest.NewAuthority(t, "host", gw, func(c *x509.Certificate) { c.IsCA, c.KeyUsage = false, 0 })
	thief := o.host(fqdn("gw.example"), leaf, o.sub.Cert.Raw)
	thief.Key = identity.Signer{Public: o.key.Public, Private: chaintest.Key(t, "thief").Private}
	bare := Local{ID: fqdn("gw.example"), Method: Signature, Key: o.key, SendKey: true}
	both := o.host(fqdn("gw.example"), leaf, o.sub.Cert.Raw)
	both.SendKey = true
	otherKey := both
	otherKey.Certificate = o.sub.Issue(chaintest.Key(t, "x").Public.Crypto(), gw)
	for _, c := range []struct {
		name  string
		local Local // of whoever is looked at; it is at both addresses of the test
		want  Remote
		fault chain.Fault
		err   error
	}{
		{"a chain with an intermediate", o.host(fqdn("gw.example"), leaf, o.sub.Cert.Raw), Remote{Anchors: o.anchors}, "", nil},
		{"BTNS-CORE-32 a bare key of the same key beside it", both, Remote{Anchors: o.anchors}, "", nil},
		{"BTNS-CORE-32 a bare key of another key beside it", otherKey, Remote{Anchors: o.anchors}, "", errKeysDiffer},
		{"the subject", o.host(subject, leaf, o.sub.Cert.Raw), Remote{Anchors: o.anchors}, "", nil},
		{"a mail address", o.host(mail, o.root.Issue(pub, func(c *x509.Certificate) { c.EmailAddresses = []string{mail.Data} })), Remote{Anchors: o.anchors}, "", nil},
		{"a key that is named needs no authority", o.host(fqdn("gw.example"), other.Issue(pub, gw)), Remote{Anchors: o.anchors, Keys: []identity.PublicKey{o.key.Public}}, "", nil},
		{"an expired one", o.host(fqdn("gw.example"), o.root.Issue(pub, gw, chaintest.Until(chaintest.Epoch.AddDate(0, 1, 0)))), Remote{Anchors: o.anchors}, chain.Expired, nil},
		{"another authority", o.host(fqdn("gw.example"), other.Issue(pub, gw)), Remote{Anchors: o.anchors}, chain.UnknownIssuer, nil},
		{"one signed by itself", Local{ID: fqdn("gw.example"), Method: Signature, Key: self.Signer, Certificate: self.Cert.Raw}, Remote{Anchors: o.anchors}, chain.UnknownIssuer, nil},
		{"another host name", o.host(fqdn("bank.example"), leaf, o.sub.Cert.Raw), Remote{Anchors: o.anchors}, chain.OtherID, nil},
		{"another subject", o.host(identity.ID{Type: identity.IDDN, Data: string(o.root.Cert.RawSubject)}, leaf, o.sub.Cert.Raw), Remote{Anchors: o.anchors}, chain.OtherID, nil},
		{"another mail address", o.host(mail, leaf, o.sub.Cert.Raw), Remote{Anchors: o.anchors}, chain.OtherID, nil},
		{"an address that nobody speaks from", o.host(identity.AddrID(addrC), o.root.Issue(pub, at(net.IP(addrC.AsSlice())))), Remote{Anchors: o.anchors}, chain.OtherID, nil},
		{"one that may not sign", o.host(fqdn("gw.example"), o.root.Issue(pub, gw, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment })), Remote{Anchors: o.anchors}, chain.NotForIKE, nil},
		{"RFC 7296 §3.6: the authority first", o.host(fqdn("gw.example"), o.sub.Cert.Raw, leaf), Remote{Anchors: o.anchors}, "", errBadProof},
		{"too many", o.host(fqdn("gw.example"), leaf, o.sub.Cert.Raw, o.sub.Cert.Raw, o.sub.Cert.Raw, o.root.Cert.Raw), Remote{Anchors: o.anchors}, chain.TooMany, nil},
		{"the certificate of somebody else", thief, Remote{Anchors: o.anchors}, "", errBadProof},
		{"a bare key", bare, Remote{Anchors: o.anchors}, chain.Invalid, nil},
		{"no key at all", Local{ID: fqdn("gw.example"), Method: Signature, Key: o.key}, Remote{Anchors: o.anchors}, "", errWrongKey},
		{"NULL", Local{Method: Null}, Remote{Anchors: o.anchors}, "", errWrongMethod},
		{"a shared key", Local{ID: fqdn("gw.example"), Method: SharedKey, PSK: []byte("x")}, Remote{Anchors: o.anchors}, "", errWrongMethod},
		{"another identity than was meant", o.host(fqdn("gw.example"), leaf, o.sub.Cert.Raw), Remote{Anchors: o.anchors, ID: fqdn("gw2.example")}, "", errWrongID},
	} {
		for _, role := range []string{"initiator", "responder"} {
			t.Run(c.name+"/"+role, func(t *testing.T) {
				p := newPair(t, 400, plain(), plain())
				judge, shown := p.b, p.a
				if role == "responder" {
					judge, shown = p.a, p.b
				}
				shown.local, judge.remote = c.local, c.want
				shown.signer = c.local.Key
				p.step(p.a, p.initiation(p.a))
				p.run(time.Minute)
				if c.fault == "" && c.err == nil {
					if len(judge.up) != 1 || len(shown.up) != 1 {
						t.Fatalf("not up: %+v", judge.down)
					}
					for _, up := range judge.up {
						if up.Peer.ID != c.local.ID || up.Peer.Key != c.local.Key.Public {
							t.Errorf("%+v", up.Peer)
						}
						if named := len(c.want.Keys) > 0; named != (up.Peer.Proven == nil) {
							t.Errorf("%+v", up.Peer.Proven)
						}
					}
					return
				}
				if c.err == errKeysDiffer && role == "initiator" { //nolint:errorlint // of the table
					if count[FindCredential](judge) != 0 || !refusedAuth(shown.down[0].Err) {
						t.Errorf("%+v", shown.down)
					}
					return
				}
				if len(judge.down) == 0 || len(judge.up)+len(shown.up) != 0 && role == "initiator" || count[SAUp](judge) != 0 {
					t.Fatalf("let in: %+v", judge.down)
				}
				var e *chain.Error
				if err := judge.down[0].Err; errors.As(err, &e) != (c.fault != "") || e != nil && e.Fault != c.fault || c.err != nil && !errors.Is(err, c.err) {
					t.Errorf("%v", err)
				}
				if role == "initiator" && !refusedAuth(shown.down[0].Err) {
					t.Errorf("the peer is told %v", shown.down[0].Err)
				}
			})
		}
	}
}

// RFC 4945 §3.1.1: an address is proven by a certificate that names it, and by speaking from it.
func TestCertificateOfAddress(t *testing.T) {
	o := newOffice(t)
	for _, v4 := range []bool{true, false} {
		p := newPair(t, 401, plain(), plain())
		a := addrA
		if !v4 {
			a = addrC
		}
		cert := o.root.Issue(o.key.Public.Crypto(), func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IP(a.AsSlice())} })
		p.a.local, p.b.remote = o.host(identity.AddrID(a), cert), Remote{Anchors: o.anchors}
		p.step(p.a, p.initiation(p.a))
		p.run(time.Second)
		if got := len(p.b.up) == 1; got != v4 {
			t.Errorf("%v: up is %v", a, got)
		}
	}
}

// The question tells what the peer has sent, the own certificate first; nothing of it is verified, and public keys are the
// work of others.
func TestCertificatesAreAsked(t *testing.T) {
	o := newOffice(t)
	p := newPair(t, 402, plain(), plain())
	leaf := o.sub.Issue(o.key.Public.Crypto(), chaintest.DNS("gw.example"))
	p.a.local, p.b.remote = o.host(fqdn("gw.example"), leaf, o.sub.Cert.Raw), Remote{Anchors: o.anchors}
	p.step(p.a, p.initiation(p.a))
	p.until(time.Second, func() bool {
		if count[FindCredential](p.b) == 0 {
			p.b.hold = len(p.a.jobs) == 0 && p.b.bySPI != nil && halfOpenKeyed(p.b)
		}
		return len(p.b.jobs) > 0
	})
	q, _ := last[FindCredential](p.b)
	if len(q.Certificates) != 2 || !bytes.Equal(q.Certificates[0], leaf) || !bytes.Equal(q.Certificates[1], o.sub.Cert.Raw) || q.Key != o.key.Public || q.ID != fqdn("gw.example") {
		t.Errorf("%+v", q)
	}
	if len(p.b.jobs) != 1 || count[JudgePeer](p.b) != 0 {
		t.Fatalf("%d jobs", len(p.b.jobs))
	}
	if j, ok := p.b.jobs[0].(*verify); !ok || j.claim == nil || j.proven != nil {
		t.Errorf("%+v", p.b.jobs[0])
	}
	p.b.hold = false
	p.b.jobs[0].Run()
	p.step(p.b, Computed{p.b.jobs[0]})
	p.run(time.Second)
	if len(p.a.up) != 1 || len(p.b.up) != 1 {
		t.Error("not up")
	}
	n := newPair(t, 403, plain(), plain())
	n.a.local, n.b.remote = Local{Method: Null}, Remote{AnyNull: true}
	n.connect()
	if q, _ := last[FindCredential](n.b); q.Certificates != nil {
		t.Errorf("certificates beside NULL: %+v", q)
	}
}

// halfOpenKeyed reports whether a responder has an IKE SA that waits for IKE_AUTH.
func halfOpenKeyed(n *node) bool {
	for _, s := range n.bySPI {
		if s.state.phase() == halfOpen {
			return true
		}
	}
	return false
}

// RFC 7296 §3.7: each side asks for certificates of the authorities that it takes the word of; the responder, who knows nobody
// yet, of all.
func TestAuthoritiesAreAskedFor(t *testing.T) {
	o := newOffice(t)
	other, err := chain.NewAnchors(chaintest.NewAuthority(t, "other").Cert.Raw)
	if err != nil {
		t.Fatal(err)
	}
	all := chain.Join(o.anchors, other)
	p := newPair(t, 404, plain(), plain())
	p.b.Accept(all)
	heard := p.listen(nil)
	i := p.initiation(p.a)
	i.Anchors = other
	p.step(p.a, i)
	p.run(time.Second)
	asked := func(m wire.Message) []byte {
		for _, pl := range m.All(wire.PayloadCERTREQ) {
			if r := pl.Body.(wire.CertReq); r.Encoding == wire.CertX509 {
				return r.Authorities
			}
		}
		return nil
	}
	if got := asked(auth(t, *heard, p.a)); !bytes.Equal(got, other.Hashes(9)) {
		t.Errorf("the initiator asks for %x", got)
	}
	if got := asked((*heard)[1].m); (*heard)[1].from != p.b || !bytes.Equal(got, all.Hashes(9)) || len(got) != 40 {
		t.Errorf("the responder asks for %x", got)
	}
	var many []*chain.Anchors
	for i := range 30 {
		a, _ := chain.NewAnchors(chaintest.NewAuthority(t, string(rune('a'+i))).Cert.Raw)
		many = append(many, a)
	}
	if r := certRequests(chain.Join(many...))[0].Body.(wire.CertReq); len(r.Authorities) != 20*maxRequested {
		t.Errorf("%d octets", len(r.Authorities))
	}
}

// RFC 4301 §4.4.2.1: SAs do not outlive the certificates they rest on, rekeyed or not.
func TestCertificatesEnd(t *testing.T) {
	o := newOffice(t)
	for _, role := range []string{"initiator", "responder"} {
		p := newPair(t, 405, plain(), plain())
		judge, shown := p.b, p.a
		if role == "responder" {
			judge, shown = p.a, p.b
		}
		end := p.now.Add(10 * time.Hour) // longer than an IKE SA lives without a rekey
		leaf := o.root.Issue(o.key.Public.Crypto(), chaintest.DNS("gw.example"), chaintest.Until(end))
		shown.local, judge.remote = o.host(fqdn("gw.example"), leaf), Remote{Anchors: o.anchors}
		p.connect()
		p.run(end.Sub(p.now) - time.Minute)
		if len(judge.up) != 1 || count[SARekeyed](judge) == 0 {
			t.Fatalf("%s: gone before the end, or not rekeyed: %+v", role, judge.down)
		}
		p.run(2 * time.Minute)
		if len(judge.up)+len(shown.up)+len(judge.children)+len(shown.children) != 0 || !errors.Is(judge.down[0].Err, ErrCertificatesEnded) || !judge.down[0].WasUp {
			t.Errorf("%s: %+v, %+v", role, judge.down, shown.down)
		}
		if p.log = nil; count[ChildDown](judge) == 0 {
			t.Errorf("%s: nothing was taken down", role)
		}
	}
}

// By the wall clock, and by how it stands when the peer comes.
func TestCertificatesByTheClock(t *testing.T) {
	o := newOffice(t)
	p := newPair(t, 406, plain(), plain())
	p.connect() // the endpoints have begun when the certificate was valid
	p.now = chaintest.End.Add(time.Hour)
	p.a.local, p.b.remote = o.host(fqdn("gw.example"), o.root.Issue(o.key.Public.Crypto(), chaintest.DNS("gw.example"))), Remote{Anchors: o.anchors}
	i := p.initiation(p.a)
	p.step(p.a, i)
	p.run(time.Second)
	var e *chain.Error
	for _, d := range p.b.down {
		if errors.As(d.Err, &e) && e.Fault == chain.Expired {
			return
		}
	}
	t.Errorf("%+v", p.b.down)
}
