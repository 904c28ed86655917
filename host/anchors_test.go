package host

import (
	"crypto/x509"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/dataplane/flow"
	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/ikev2"
	"github.com/btns-ipsec/btns/ikev2/chain"
	"github.com/btns-ipsec/btns/ikev2/chain/chaintest"
	"github.com/btns-ipsec/btns/policy"
	"github.com/btns-ipsec/btns/protect"
	"github.com/btns-ipsec/btns/selector"
)

func fqdn(name string) identity.ID { return identity.ID{Type: identity.IDFQDN, Data: name} }

// shows is a host that shows itself as name, with a certificate that ca has issued for its key.
func shows(t testing.TB, ca *chaintest.Authority, box, name string, change ...func(*x509.Certificate)) ikev2.Local {
	t.Helper()
	k := key(t, box)
	der := ca.Issue(k.Public.Crypto(), append(change, chaintest.DNS(name))...)
	return ikev2.Local{ID: fqdn(name), Method: ikev2.Signature, Key: k, Certificate: der}
}

func anchorsOf(t testing.TB, list ...*chaintest.Authority) *chain.Anchors {
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

// under configures a peer at an address that has to prove an ID by a certificate of ca, and that is shown self. What it may
// have is its address, or what lies within.
func under(t testing.TB, ca *chaintest.Authority, start Start, remote netip.Addr, id identity.ID, self ikev2.Local, unknown policy.Unknown, within ...netip.Prefix) func(*Config) {
	t.Helper()
	return func(c *Config) {
		pad := policy.PADEntry{Name: "office", Kind: policy.ByID, ID: id, Anchors: []string{"ca"}, Constraint: selector.Set{selector.Host(remote)}}
		spd := policy.Entry{
			Name: "office", Action: policy.Protect, Mode: protect.Transport, Peer: "office", Local: selector.Any(), Remote: pad.Constraint,
			Fallback: policy.Require, Offer: policy.DefaultOffer(true), Lifetime: policy.DefaultLifetime(),
		}
		for _, p := range within {
			pad.Constraint = append(pad.Constraint, selector.Prefix(p))
		}
		list := []policy.PADEntry{pad, policy.Anyone()}
		if unknown.NullOK {
			list = append(list, policy.Anonymous())
		}
		p, err := policy.New(append(append(policy.Untouchable(), spd), policy.Rest(unknown)...), list)
		if err != nil {
			t.Fatal(err)
		}
		c.Policy, c.Anchors = p, Anchors{"ca": anchorsOf(t, ca)}
		c.Peers = []Peer{{Name: "office", Remote: remote, Self: self, Mode: protect.Transport, Start: start, Offer: spd.Offer, Lifetime: spd.Lifetime}}
	}
}

var prefer = policy.Unknown{Fallback: policy.Prefer}

// Peers that are authenticated by certificates live on a host beside those that are nothing but their key, whoever begins
// (trust.md §2: PKIX under a configured anchor is verified).
func TestCertifiedPeerBesideOthers(t *testing.T) {
	for name, starts := range map[string][2]Start{"it begins": {StartListen, StartUp}, "we begin": {StartUp, StartListen}} {
		t.Run("BTNS-TRUST-01 "+name, func(t *testing.T) {
			ca := chaintest.NewAuthority(t, "ca")
			w := newWorld(t)
			self, other := shows(t, ca, "a", "a.example"), shows(t, ca, "b", "b.example")
			a := w.box("a", addrA, under(t, ca, starts[0], addrB, fqdn("b.example"), self, prefer))
			b := w.box("b", addrB, under(t, ca, starts[1], addrA, fqdn("a.example"), other, prefer))
			a.h.Step(w.now, Tick{}, nil)
			w.pass(10 * time.Second)
			c := w.box("c", addrC)
			c.acquire(addrA)
			w.talk(a, b)
			w.talk(a, c)
			a.want(addrB, StateProtected, flow.Protect)
			a.want(addrC, StateProtected, flow.Protect)
			views := a.h.Peers(w.now)
			if len(views) != 2 || views[0].Name != "office" || views[0].Assurance != identity.Verified || views[0].ID != fqdn("b.example") ||
				views[1].Assurance != identity.FirstUse || views[1].Name != "" {
				t.Errorf("%+v", views)
			}
			story := strings.Join(a.h.Explain(w.now, addrB, 0).Story(), "\n")
			for _, part := range []string{`its certificate is that of "CN=host,O=Example", and proves fqdn:b.example under the authority "CN=ca,O=Example" until 2034-01-01`, "verified"} {
				if !strings.Contains(story, part) {
					t.Errorf("%q is not in\n%s", part, story)
				}
			}
		})
	}
}

// Whoever does not prove the ID of a certified peer gets neither its name nor what belongs to it: not with a bare key, not with
// certificates of others, not without a key (BTNS-CORE-07, -11, BTNS-NULL-07).
func TestNobodyTakesWhatIsCertified(t *testing.T) {
	ca, other := chaintest.NewAuthority(t, "ca"), chaintest.NewAuthority(t, "other")
	office := netip.MustParsePrefix("203.0.113.2/31") // that of the peer and that of the attacker
	self := shows(t, ca, "a", "a.example")
	evil := key(t, "evil")
	signed, err := identity.SelfSigned(evil, epoch, chance("x"), fqdn("b.example"))
	if err != nil {
		t.Fatal(err)
	}
	genuine := shows(t, ca, "b", "b.example")
	stolen := genuine
	stolen.Key = identity.Signer{Public: genuine.Key.Public, Private: evil.Private}
	for _, c := range []struct {
		name   string
		self   ikev2.Local
		reason Reason // of the refusal; empty: it is let in, and its child refused
	}{
		{"a bare key", ikev2.Local{ID: fqdn("b.example"), Method: ikev2.Signature, Key: evil, SendKey: true}, NoCertificate},
		{"in other letters", ikev2.Local{ID: fqdn("B.Example"), Method: ikev2.Signature, Key: evil, SendKey: true}, NoCertificate},
		{"no key sent", ikev2.Local{ID: fqdn("b.example"), Method: ikev2.Signature, Key: evil}, NoCertificate},
		{"signed by itself", ikev2.Local{ID: fqdn("b.example"), Method: ikev2.Signature, Key: evil, Certificate: signed}, certificateReason(chain.UnknownIssuer)},
		{"of another authority", shows(t, other, "evil", "b.example"), certificateReason(chain.UnknownIssuer)},
		{"of an authority with that name", shows(t, ca.Imitation(), "evil", "b.example"), certificateReason(chain.UnknownIssuer)},
		{"certified as another host", func() ikev2.Local {
			l := shows(t, ca, "evil", "c.example")
			l.ID = fqdn("b.example")
			return l
		}(), certificateReason(chain.OtherID)},
		{"certified, and too late", shows(t, ca, "evil", "b.example", chaintest.Until(epoch.Add(-time.Hour))), certificateReason(chain.Expired)},
		{"a stolen certificate", stolen, "ike-bad-auth"},
		{"a shared key", ikev2.Local{ID: fqdn("b.example"), Method: ikev2.SharedKey, PSK: []byte("x")}, WrongKey},
		{"certified as itself, and its key is its identity", shows(t, ca, "evil", "c.example"), ""},
		{"its own name and a bare key", ikev2.Local{ID: identity.Null(), Method: ikev2.Signature, Key: evil, SendKey: true}, ""},
		{"no key", ikev2.Local{ID: fqdn("b.example"), Method: ikev2.Null}, ""},
	} {
		t.Run("BTNS-CORE-07 BTNS-CORE-11 "+c.name, func(t *testing.T) {
			w := newWorld(t)
			a := w.box("a", addrA, under(t, ca, StartListen, addrB, fqdn("b.example"), self, policy.Unknown{Fallback: policy.Prefer, NullOK: true}, office))
			e := w.box("evil", addrC, func(cfg *Config) {
				transport(t, StartUp, addrA)(cfg)
				cfg.Peers[0].Self = c.self
			})
			w.pass(3 * time.Second)
			if a.h.sas.Len() != 0 || len(a.sas) != 0 || e.h.sas.Len() != 0 {
				t.Fatalf("%d pairs\n%s", a.h.sas.Len(), a.story())
			}
			for _, s := range a.h.sessions {
				if s.up && (c.reason != "" || s.assurance == identity.Verified) {
					t.Errorf("it is let in: %+v", s.who)
				}
			}
			want := c.reason
			if want == "" {
				want = ChildOutside
			}
			if !slices.ContainsFunc(a.reports, func(r Report) bool { return r.Reason == want && r.Remote == addrC }) {
				t.Errorf("nobody is told of %s\n%s", want, a.story())
			}
		})
	}
}

// A refusal is told with its reason, once to each attempt, and the peer that it was about stays held.
func TestUncertifiedGatewayIsRefused(t *testing.T) {
	ca := chaintest.NewAuthority(t, "ca")
	w := newWorld(t)
	late := shows(t, ca, "b", "b.example", chaintest.Until(epoch.Add(-time.Hour)))
	b := w.box("b", addrB, under(t, ca, StartListen, addrA, fqdn("a.example"), late, prefer))
	a := w.box("a", addrA, under(t, ca, StartOnDemand, addrB, fqdn("b.example"), shows(t, ca, "a", "a.example"), prefer))
	a.acquire(addrB)
	w.pass(3 * time.Second)
	a.want(addrB, StateRefused, flow.Hold)
	x := a.h.Explain(w.now, addrB, 0)
	expired := certificateReason(chain.Expired)
	if x.Reason != expired || x.Hint != expired.Meaning().Hint || !strings.Contains(x.Why, `"CN=host,O=Example" was valid until 2029-12-31 23:00:00`) {
		t.Errorf("%+v", x)
	}
	if story := strings.Join(x.Story(), "\n"); !strings.Contains(story, `prove fqdn:b.example by a certificate under "CN=ca,O=Example"`) {
		t.Error(story)
	}
	if a.count(PeerRefused) == 0 || len(b.h.sas.Owned(1)) != 0 {
		t.Error(a.story())
	}
}

// When the certificate of a peer ends, so do its SAs, and others are made with the one that it has then.
func TestCertificateEnds(t *testing.T) {
	ca := chaintest.NewAuthority(t, "ca")
	w := newWorld(t)
	until := epoch.Add(time.Hour)
	b := w.box("b", addrB, under(t, ca, StartListen, addrA, fqdn("a.example"), shows(t, ca, "b", "b.example", chaintest.Until(until)), prefer))
	a := w.box("a", addrA, under(t, ca, StartUp, addrB, fqdn("b.example"), shows(t, ca, "a", "a.example"), prefer))
	w.pass(until.Sub(w.now) - time.Minute)
	a.want(addrB, StateProtected, flow.Protect)
	w.pass(2 * time.Minute)
	a.want(addrB, StateRefused, flow.Hold)
	told := func(r Report) bool { return r.Kind == Unprotected && r.Reason == certificateReason(chain.Expired) }
	if !slices.ContainsFunc(a.reports, told) || a.h.sas.Len() != 0 {
		t.Fatalf("%d pairs\n%s", a.h.sas.Len(), a.story())
	}
	renewed := b.cfg
	under(t, ca, StartListen, addrA, fqdn("a.example"), shows(t, ca, "b", "b.example"), prefer)(&renewed)
	b.do(Reload{Policy: renewed.Policy, Peers: renewed.Peers, Anchors: renewed.Anchors})
	w.pass(2 * time.Minute)
	a.want(addrB, StateProtected, flow.Protect)
}

// A reload asks of certified sessions whether their authority still vouches for them (BTNS-TRUST-06: what a rule verifies
// vanishes with the rule).
func TestReloadOfAuthorities(t *testing.T) {
	ca, other := chaintest.NewAuthority(t, "ca"), chaintest.NewAuthority(t, "other")
	renewed := chaintest.NewAuthority(t, "ca", chaintest.Until(chaintest.End.AddDate(10, 0, 0))) // the same name and key
	for _, c := range []struct {
		name string
		edit func(*Config)
		stay bool
	}{
		{"the same", func(*Config) {}, true},
		{"the certificate of the authority is renewed", func(c *Config) { c.Anchors = Anchors{"ca": anchorsOf(t, renewed)} }, true},
		{"another authority besides", func(c *Config) { c.Anchors = Anchors{"ca": anchorsOf(t, other, ca)} }, true},
		{"another authority", func(c *Config) { c.Anchors = Anchors{"ca": anchorsOf(t, other)} }, false},
		{"no authority", func(c *Config) { c.Anchors = nil }, false},
		{"another identity", func(cfg *Config) {
			under(t, ca, StartListen, addrB, fqdn("b2.example"), cfg.Peers[0].Self, prefer)(cfg)
		}, false},
		{"the key instead", func(cfg *Config) {
			pad := policy.PADEntry{Name: "office", Kind: policy.ByID, ID: fqdn("b.example"), Keys: []identity.PublicKey{key(t, "b").Public}, Constraint: selector.Set{selector.Host(addrB)}}
			p, err := policy.New(cfg.Policy.SPD(), []policy.PADEntry{pad, policy.Anyone()})
			if err != nil {
				t.Fatal(err)
			}
			cfg.Policy, cfg.Anchors = p, nil
		}, true},
	} {
		t.Run("BTNS-TRUST-06 "+c.name, func(t *testing.T) {
			w := newWorld(t)
			a := w.box("a", addrA, under(t, ca, StartListen, addrB, fqdn("b.example"), shows(t, ca, "a", "a.example"), prefer))
			w.box("b", addrB, under(t, ca, StartUp, addrA, fqdn("a.example"), shows(t, ca, "b", "b.example"), prefer))
			w.pass(time.Second)
			a.want(addrB, StateProtected, flow.Protect)
			cfg := a.cfg
			c.edit(&cfg)
			a.step(Reload{Policy: cfg.Policy, Peers: slices.Clone(cfg.Peers), Anchors: cfg.Anchors})
			if stays := a.h.sas.Len() == 1; stays != c.stay {
				t.Errorf("%d pairs\n%s", a.h.sas.Len(), a.story())
			}
			w.settle()
		})
	}
}

// roamers configures peers that are in a domain and come from wherever they are.
func roamers(t testing.TB, ca *chaintest.Authority, self ikev2.Local) func(*Config) {
	return func(c *Config) {
		pad := policy.PADEntry{Name: "staff", Kind: policy.ByID, IDs: policy.IDRange{Domain: ".staff.example"}, Anchors: []string{"ca"}, Here: true}
		spd := policy.Untouchable()
		spd = append(spd, policy.Entry{
			Name: "ssh", Action: policy.Protect, Mode: protect.Transport, Peer: "staff",
			Local:  selector.Set{{From: addrA, To: addrA, Proto: 6, Ports: selector.PortRange{From: 22, To: 22}}},
			Remote: selector.Any(), Fallback: policy.Require, Offer: policy.DefaultOffer(true), Lifetime: policy.DefaultLifetime(),
		})
		p, err := policy.New(append(spd, policy.Rest(prefer)...), []policy.PADEntry{pad, policy.Anyone()})
		if err != nil {
			t.Fatal(err)
		}
		c.Policy, c.Anchors = p, Anchors{"ca": anchorsOf(t, ca)}
		c.Peers = []Peer{{Name: "staff", Self: self}}
	}
}

// One entry is about many peers without addresses, each proven by its own certificate, shown ours, and kept to the address that
// it speaks from (RFC 4301 §4.4.3.1).
func TestRoamingPeers(t *testing.T) {
	ca := chaintest.NewAuthority(t, "ca")
	w := newWorld(t)
	a := w.box("a", addrA, roamers(t, ca, shows(t, ca, "a", "a.example")))
	b := w.box("b", addrB, under(t, ca, StartUp, addrA, fqdn("a.example"), shows(t, ca, "b", "b.staff.example"), prefer))
	c := w.box("c", addrC, under(t, ca, StartUp, addrA, fqdn("a.example"), shows(t, ca, "c", "c.staff.example"), prefer))
	w.talk(a, b)
	w.talk(a, c)
	for _, x := range []*box{b, c} {
		x.want(addrA, StateProtected, flow.Protect)
		a.want(x.addr, StateProtected, flow.Protect)
		s := a.h.peers[x.addr].session()
		if s.assurance != identity.Verified || s.who.ID != fqdn(x.name+".staff.example") || x.h.peers[addrA].session().assurance != identity.Verified {
			t.Errorf("%s: %+v", x.name, s.who)
		}
		for _, p := range a.h.sas.Owned(uint64(s.handle)) {
			if !p.Remote.Covers(selector.Set{selector.Host(x.addr)}) || p.Remote.Overlaps(selector.Set{selector.Host(addrB), selector.Host(addrC)}.Subtract(selector.Set{selector.Host(x.addr)})) {
				t.Errorf("%s has %v", x.name, p.Remote)
			}
		}
	}
	if v := a.h.Peers(w.now); len(v) != 2 || v[0].Name != "staff" || v[1].Name != "staff" {
		t.Errorf("%+v", v)
	}
	cfg := a.cfg
	a.step(Reload{Policy: cfg.Policy, Peers: slices.Clone(cfg.Peers), Anchors: cfg.Anchors})
	if a.h.sas.Len() != 2 {
		t.Errorf("a reload of the same leaves %d pairs\n%s", a.h.sas.Len(), a.story())
	}
	w.settle()
	a.step(Reload{Policy: cfg.Policy, Peers: nil})
	if a.h.sas.Len() != 0 {
		t.Errorf("without an authority %d pairs stay", a.h.sas.Len())
	}
	w.settle()
}

// A certified peer without an address asks for what is not its own, and does not get it.
func TestRoamingPeersHaveOneAddress(t *testing.T) {
	ca := chaintest.NewAuthority(t, "ca")
	w := newWorld(t)
	a := w.box("a", addrA, roamers(t, ca, shows(t, ca, "a", "a.example")))
	w.box("b", addrB, func(cfg *Config) {
		tunnels(t, StartUp, tunnel{"gate", addrA, "203.0.113.1/32"})(cfg)
		cfg.Peers[0].InsideLocal = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}
		cfg.Peers[0].Self = shows(t, ca, "b", "b.staff.example")
	})
	w.pass(3 * time.Second)
	if a.h.sas.Len() != 0 || !slices.ContainsFunc(a.reports, func(r Report) bool { return r.Reason == ChildOutside }) {
		t.Errorf("%d pairs\n%s", a.h.sas.Len(), a.story())
	}
}

// Two hosts of which each lets the other in, and is turned away by it, pause between their attempts.
func TestMutualRefusalPauses(t *testing.T) {
	ca := chaintest.NewAuthority(t, "ca")
	w := newWorld(t)
	a := w.box("a", addrA, under(t, ca, StartUp, addrB, fqdn("b2.example"), shows(t, ca, "a", "a.example"), prefer))
	b := w.box("b", addrB, under(t, ca, StartUp, addrA, fqdn("a2.example"), shows(t, ca, "b", "b.example"), prefer))
	w.pass(10 * time.Second)
	if n := a.exchanges(ikeSAInit) + b.exchanges(ikeSAInit); n > 30 || n < 4 {
		t.Errorf("%d attempts in 10 s", n)
	}
	for range 2 {
		before := len(a.sent) + len(b.sent)
		if w.pass(time.Minute); len(a.sent)+len(b.sent)-before > 100 {
			t.Errorf("%d datagrams in a minute", len(a.sent)+len(b.sent)-before)
		}
	}
}

// A public service is known by its certificate to those who stay unknown to it: whoever asks for it by a name that the certificate
// has is shown that, and everybody else its key (RFC 5387 §4.3.2, applicability.md: A-SAB).
func TestServiceIsCertifiedToStrangers(t *testing.T) {
	ca := chaintest.NewAuthority(t, "ca")
	service := shows(t, ca, "a", "www.example", chaintest.DNS("shop.example"))
	service.Key = key(t, "service")
	own, err := chain.NewOwn([][]byte{ca.Issue(service.Key.Public.Crypto(), chaintest.DNS("www.example"), chaintest.DNS("shop.example"))})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		asks string
		want PeerState
	}{{"www.example", StateProtected}, {"SHOP.example", StateProtected}, {"bank.example", StateOutage}} {
		t.Run(c.asks, func(t *testing.T) {
			w := newWorld(t)
			a := w.box("a", addrA, func(cfg *Config) { cfg.Certified = Certified{own, service.Key} })
			anonymous := ikev2.Local{ID: identity.Null(), Method: ikev2.Signature, SendKey: true}
			b := w.box("b", addrB, under(t, ca, StartUp, addrA, fqdn(c.asks), anonymous, prefer))
			x := w.box("c", addrC)
			x.acquire(addrA)
			w.talk(a, b)
			w.talk(a, x)
			if b.state(addrA) != c.want {
				t.Fatalf("%v\n%s", b.state(addrA), b.story())
			}
			if s := x.h.peers[addrA].session(); s.who.Key != a.cfg.Signer.Public || s.who.ID != identity.Null() {
				t.Errorf("whoever asks for nothing is shown %+v", s.who)
			}
			if c.want != StateProtected {
				return
			}
			if s := b.h.peers[addrA].session(); s.who.Key != service.Key.Public || s.assurance != identity.Verified || !s.who.ID.Matches(fqdn(c.asks)) {
				t.Errorf("%+v", s.who)
			}
			if s := a.h.peers[addrB].session(); s.assurance != identity.FirstUse || s.who.Key != b.cfg.Signer.Public {
				t.Errorf("the client is %v to the service", s.assurance)
			}
		})
	}
}

// A key that was revoked is refused whoever certifies it, and its sessions end.
func TestRevokedKeyOfCertifiedPeer(t *testing.T) {
	ca := chaintest.NewAuthority(t, "ca")
	w := newWorld(t)
	a := w.box("a", addrA, under(t, ca, StartListen, addrB, fqdn("b.example"), shows(t, ca, "a", "a.example"), prefer))
	b := w.box("b", addrB, under(t, ca, StartUp, addrA, fqdn("a.example"), shows(t, ca, "b", "b.example"), prefer))
	w.talk(a, b)
	a.want(addrB, StateProtected, flow.Protect)
	for _, r := range a.reports {
		if r.Kind == FirstContact && strings.Contains(r.Text, "leap of faith") {
			t.Errorf("a certified peer is told as a leap of faith: %s", r.Text)
		}
	}
	a.do(Revoke{Key: key(t, "b").Public.Fingerprint()})
	w.pass(time.Minute)
	if a.h.sas.Len() != 0 || a.state(addrB) == StateProtected || a.count(KeyRevoked) == 0 {
		t.Errorf("%v, %d pairs\n%s", a.state(addrB), a.h.sas.Len(), a.story())
	}
}

// The entries without an address are shown the host's key as it is, where they are shown that; a certificate has its own.
func TestRoamingPeersAreShownTheNextKey(t *testing.T) {
	ca := chaintest.NewAuthority(t, "ca")
	w := newWorld(t)
	next := key(t, "next")
	bare := w.box("a", addrA, roamers(t, ca, ikev2.Local{ID: identity.Null(), Method: ikev2.Signature, SendKey: true}))
	certified := w.box("c", addrC, roamers(t, ca, shows(t, ca, "service", "c.example")))
	for b, told := range map[*box]bool{bare: true, certified: false} {
		b.h.cfg.Rotation.Next = next
		if text := b.h.planned(0); strings.Contains(text, "need the new one there: staff") != told {
			t.Errorf("%s: %s", b.name, text)
		}
		b.h.cfg.Rotation.Next = identity.Signer{}
		b.h.takeKey(w.now, next)
		b.take(b.h.take())
	}
	if got := bare.h.roaming["staff"].Self.Key.Public; got != next.Public {
		t.Errorf("shown %v", got)
	}
	if got := certified.h.roaming["staff"].Self.Key.Public; got != key(t, "service").Public {
		t.Errorf("the key of the certificate became %v", got)
	}
}
