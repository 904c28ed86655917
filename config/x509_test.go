package config

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/ikev2"
	"github.com/btns-ipsec/btns/policy"
	"github.com/btns-ipsec/btns/protect"
	"github.com/btns-ipsec/btns/selector"
)

const (
	forAll = "[x509]\nca = 'ca.pem'\ncertificate = 'host.pem'\nown_key = 'host.key'\n"
	gate   = "[[peer]]\nname = 'gate'\naddress = '192.0.2.1'\nauth = 'x509'\nid = 'gw.example.org'\n"
)

// A peer has to prove its identity under authorities of its own or those of all, and is shown our certificate and those above it.
func TestX509(t *testing.T) {
	for name, text := range map[string]string{
		"for all":      forAll + gate,
		"for the peer": gate + "ca = ['ca.pem']\ncertificate = 'host.pem'\nown_key = 'host.key'\n",
		"both":         strings.ReplaceAll(strings.ReplaceAll(forAll, "ca.pem", "other-ca.pem"), "host.", "alone.") + gate + "ca = 'ca.pem'\ncertificate = 'host.pem'\nown_key = 'host.key'\n",
	} {
		if name == "both" {
			text = strings.ReplaceAll(text, "alone.key", "host.key")
		}
		c, err := parse(t, text)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		e := c.Policy.Entry("gate")
		if e.Kind != policy.ByID || e.ID.String() != "fqdn:gw.example.org" || !slices.Equal(e.Anchors, []string{"ca.pem"}) || e.Here ||
			!e.Constraint.Covers(selector.Set{selector.Host(netip.MustParseAddr("192.0.2.1"))}) || len(e.Keys)+len(e.PSK) != 0 {
			t.Errorf("%s: %+v", name, *e)
		}
		h := c.Host()
		if a := h.Anchors.Of(e.Anchors); a.Len() != 1 || !strings.Contains(a.Names()[0], "CN=root") {
			t.Errorf("%s: %v", name, a.Names())
		}
		self := h.Peers[0].Self
		if self.Method != ikev2.Signature || self.Key.Public != signer(t, 1).Public || len(self.Certificate) == 0 || len(self.Above) != 1 || self.SendKey || self.ID.String() != "fqdn:host.example.org" {
			t.Errorf("%s: %+v", name, self.ID)
		}
		if p := c.Peers[0]; p.Mode != protect.Transport || p.Auth != X509 || len(c.Policy.SPD()) != len(policy.Untouchable())+2 {
			t.Errorf("%s: %+v", name, p)
		}
		if len(c.Warnings) != 0 {
			t.Errorf("%s: %q", name, c.Warnings)
		}
	}
}

// What a peer may be called, in all its forms.
func TestX509Identities(t *testing.T) {
	for id, want := range map[string]string{
		"gw.example.org": "fqdn:gw.example.org", "user@example.org": "email:user@example.org", "192.0.2.7": "ipv4:192.0.2.7", "2001:db8::7": "ipv6:2001:db8::7",
		"CN=gw, O=Example, C=DE": "dn:CN=gw,O=Example,C=DE", "UID=a, O=Example": "dn:0.9.2342.19200300.100.1.1=#130161,O=Example",
		"*.example.org": "*.example.org", "*@example.org": "*@example.org", "192.0.2.0/24": "192.0.2.0/24", "*, O=Example, C=DE": "*,O=Example,C=DE",
	} {
		c, err := parse(t, strings.Replace(forAll+gate, "gw.example.org", id, 1))
		if err != nil {
			t.Errorf("%s: %v", id, err)
			continue
		}
		if got := c.Policy.Entry("gate").IDText(); got != want {
			t.Errorf("%s: %s", id, got)
		}
	}
	for local, want := range map[string]string{"": "fqdn:host.example.org", "local_id = 'CN=host, O=Example'\n": "dn:CN=host,O=Example"} {
		c, err := parse(t, forAll+gate+local)
		if err != nil || c.Peers[0].LocalID.String() != want {
			t.Errorf("%q: %v", local, err)
		}
	}
}

// A peer without an address is known by what it proves, by a certificate or a shared secret, and lives by the policy of all.
func TestPeersFromAnywhere(t *testing.T) {
	c, err := parse(t, forAll+"[[peer]]\nname = 'staff'\nauth = 'x509'\nid = '*.staff.example.org'\ndpd = '30s'\n"+
		"[[peer]]\nauth = 'psk'\nid = 'user@example.org'\npsk = 'x'\n"+
		"[[policy]]\nlocal = ['any tcp/22']\naction = 'protect'\npeer = 'staff'\n")
	if err != nil {
		t.Fatal(err)
	}
	staff, user := c.Policy.Entry("staff"), c.Policy.Entry("user@example.org")
	if staff.Kind != policy.ByID || staff.IDs.Domain != ".staff.example.org" || len(staff.Anchors) != 1 || !staff.Here || staff.Constraint != nil {
		t.Errorf("%+v", *staff)
	}
	if user == nil || user.Kind != policy.ByID || string(user.PSK) != "x" || !user.Here || user.ID.Type != identity.IDRFC822 {
		t.Errorf("%v", user)
	}
	if n := len(policy.Untouchable()); len(c.Policy.SPD()) != n+2 || c.Policy.SPD()[n].Peer != "staff" {
		t.Errorf("%v", c.Policy.SPD()[n:])
	}
	if h := c.Host(); h.Peers[0].Remote.IsValid() || len(h.Peers[0].Self.Certificate) == 0 || h.Peers[0].IKE.Liveness == 0 {
		t.Errorf("%+v", h.Peers[0])
	}
	if len(c.Warnings) != 0 {
		t.Errorf("%q", c.Warnings)
	}
}

// Without a certificate of our own the peer is shown our key, as everybody is.
func TestX509OneSided(t *testing.T) {
	c, err := parse(t, "[x509]\nca = 'bundle.pem'\n"+gate)
	if err != nil {
		t.Fatal(err)
	}
	if self := c.Host().Peers[0].Self; !self.SendKey || self.Certificate != nil || self.ID != identity.Null() {
		t.Errorf("%+v", self.ID)
	}
	if len(c.Warnings) != 1 || !strings.HasPrefix(c.Warnings[0], `btns.toml:2: bundle.pem: the certificate of "CN=old,O=Example" was valid until`) {
		t.Errorf("%q", c.Warnings)
	}
}

// A host may have a certificate for strangers alone, who ask for it by name.
func TestCertifiedForStrangers(t *testing.T) {
	c, err := parse(t, "[x509]\ncertificate = 'host.pem'\nown_key = 'host.key'\n")
	if err != nil {
		t.Fatal(err)
	}
	if h := c.Host(); h.Certified.Own == nil || !h.Certified.Own.About(identity.ID{Type: identity.IDFQDN, Data: "host.example.org"}) || h.Certified.Key.Public != signer(t, 1).Public {
		t.Errorf("%+v", h.Certified)
	}
}

// What is odd and not wrong.
func TestX509Warnings(t *testing.T) {
	for text, want := range map[string]string{
		"[x509]\nca = 'ca.pem'\ncertificate = 'expired.pem'\nown_key = 'host.key'\n" + gate + strings.NewReplacer("gate", "two", "0.2.1", "0.2.2", "gw.", "gw2.").Replace(gate): `btns.toml:3: expired.pem: the certificate of "CN=host,O=Example" was valid until`,
		"[[peer]]\nname = 'all'\nauth = 'psk'\nid = '*.example.org'\npsk = 'x'\n":                                                                                               `btns.toml:1: peer "all": whoever has this shared secret can be any of *.example.org`,
		gate + "ca = 'other-ca.pem'\n[[peer]]\nauth='x509'\nid='a.example'\nca='other-ca.pem'":                                                                                  `btns.toml:6: other-ca.pem: the certificate of "CN=old,O=Example" was valid until`,
	} {
		c, err := parse(t, text)
		if err != nil || len(c.Warnings) != 1 || !strings.HasPrefix(c.Warnings[0], want) {
			t.Errorf("%q\n%v\n%s", text, err, want)
			if c != nil {
				t.Errorf("%q", c.Warnings)
			}
		}
	}
}

// Every wrong word gets an error with its place.
func TestX509Errors(t *testing.T) {
	anywhere := "[[peer]]\nname = 'x'\nauth = 'x509'\nid = '*.example.org'\n"
	for _, tc := range []struct{ name, text, want string }{
		{"no authority", gate, "btns.toml:1:3: peer[0].ca: it is missing"},
		{"no such file", gate + "ca = 'nothing.pem'\n", "btns.toml:6:1: peer[0].ca: open nothing.pem"},
		{"no such file for all", "[x509]\nca = ['ca.pem', 'nothing.pem']\n" + gate, "btns.toml:2:1: x509.ca: open nothing.pem"},
		{"no file", gate + "ca = 3\n", "btns.toml:6:1: peer[0].ca: 3 is not a file"},
		{"no authority in a list", gate + "ca = []\n", "btns.toml:6:1: peer[0].ca: an empty list"},
		{"no certificate in it", gate + "ca = 'psk'\n", "peer[0].ca: psk: no certificate in it"},
		{"damaged", gate + "ca = 'broken.pem'\n", "peer[0].ca: broken.pem: a certificate cannot be read"},
		{"an authority that is none", gate + "ca = 'alone.pem'\n", `peer[0].ca: alone.pem: "CN=host,O=Example" is not the certificate of an authority`},
		{"no id", forAll + strings.Replace(gate, "id = 'gw.example.org'\n", "", 1), "btns.toml:5:3: peer[0].id: it is missing"},
		{"a wrong id", forAll + strings.Replace(gate, "gw.", "a b.", 1), "btns.toml:9:1: peer[0].id: identity"},
		{"a wrong range", forAll + strings.Replace(gate, "gw.example.org", "192.0.2.1/24", 1), `peer[0].id: "192.0.2.1/24" has bits set`},
		{"a wrong subtree", forAll + strings.Replace(gate, "gw.example.org", "*, nonsense", 1), "peer[0].id: identity: not an identity"},
		{"a name from its general end", forAll + strings.Replace(gate, "gw.example.org", "C=DE, O=Example, CN=gw", 1), "write it the other way round"},
		{"a certificate without a key", gate + "ca='ca.pem'\ncertificate='host.pem'\n", "peer[0].own_key: certificate needs it"},
		{"a key without a certificate", gate + "ca='ca.pem'\nown_key='host.key'\n", "peer[0].certificate: own_key needs it"},
		{"a certificate for all without a key", "[x509]\nca='ca.pem'\ncertificate='host.pem'\n" + gate, "btns.toml:1:2: x509.own_key: certificate needs it"},
		{"the certificate of another key", gate + "ca='ca.pem'\ncertificate='host.pem'\nown_key='other.key'\n", "is of the key SHA256:"},
		{"no private key", gate + "ca='ca.pem'\ncertificate='host.pem'\nown_key='psk'\n", "peer[0].own_key: psk: identity: unusable private key"},
		{"a chain backwards", gate + "ca='ca.pem'\ncertificate='backwards.pem'\nown_key='host.key'\n", "peer[0].certificate: backwards.pem: the first certificate is that of the authority"},
		{"no certificate of ours", gate + "ca='ca.pem'\ncertificate='psk'\nown_key='host.key'\n", "peer[0].certificate: psk: no certificate in it"},
		{"a name that is not ours", forAll + gate + "local_id = 'x.example.org'\n", "btns.toml:10:1: peer[0].local_id: the certificate is about fqdn:host.example.org"},
		{"a key of the peer", forAll + gate + "key = 'peer-key.pem'\n", `peer[0].key: it means nothing with auth "x509"`},
		{"an authority with a key", "[[peer]]\naddress='192.0.2.1'\nauth='rawkey'\nkey='peer-key.pem'\nca='ca.pem'\n", `peer[0].ca: it means nothing with auth "rawkey"`},
		{"a range with a key", "[[peer]]\naddress='192.0.2.1'\nauth='rawkey'\nkey='peer-key.pem'\nid='*.example.org'\n", "peer[0].id: a range of identities needs auth"},
		{"for nobody", forAll, "btns.toml:2:1: x509.ca: no [[peer]] has auth"},
		{"from anywhere with a key", "[[peer]]\nauth='rawkey'\nkey='peer-key.pem'\nid='x.example'\n", "peer[0].address: it is missing"},
		{"from anywhere without a name", "[[peer]]\nauth='psk'\npsk='x'\n", "peer[0].address: it is missing, and so is id"},
		{"from anywhere to begin with", forAll + anywhere + "start = 'up'\n", "btns.toml:9:1: peer[0].start: it needs address"},
		{"from anywhere in a tunnel", forAll + anywhere + "local = ['192.0.2.0/24']\n", "peer[0].local: it needs address"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, err := parse(t, tc.text)
			var e *Error
			if !errors.As(err, &e) || c != nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("got  %v\nwant %s", err, tc.want)
			}
		})
	}
}
