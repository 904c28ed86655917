package config

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/ikev2/chain/chaintest"
	"github.com/btns-ipsec/btns/ikev2/suite"
	"github.com/btns-ipsec/btns/policy"
	"github.com/btns-ipsec/btns/probe"
	"github.com/btns-ipsec/btns/protect"
	"github.com/btns-ipsec/btns/selector"
	"github.com/btns-ipsec/btns/trust"
)

func signer(t testing.TB, n byte) identity.Signer {
	t.Helper()
	s, err := identity.NewEd25519(bytes.NewReader(bytes.Repeat([]byte{n}, 32)))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// files are those that the documents of these tests name.
func files(t testing.TB) map[string][]byte {
	t.Helper()
	private, err := identity.MarshalPrivateKey(signer(t, 1))
	other, err2 := identity.MarshalPrivateKey(signer(t, 3))
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	cert := func(s identity.Signer) []byte {
		der, err := identity.SelfSigned(s, time.Unix(0, 0), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	}
	root, old := chaintest.NewAuthority(t, "root", chaintest.Now(year)), chaintest.NewAuthority(t, "old", chaintest.Now(-time.Hour))
	sub := root.Sub("sub", chaintest.Now(year))
	own := signer(t, 1).Public.Crypto()
	host := sub.Issue(own, chaintest.Now(year), chaintest.DNS("host.example.org"))
	return map[string][]byte{
		"ca.pem": chaintest.PEM(root.Cert.Raw), "other-ca.pem": chaintest.PEM(old.Cert.Raw), "bundle.pem": chaintest.PEM(root.Cert.Raw, old.Cert.Raw),
		"host.pem": chaintest.PEM(host, sub.Cert.Raw), "backwards.pem": chaintest.PEM(sub.Cert.Raw, host), "host.key": private, "other.key": other,
		"expired.pem": chaintest.PEM(root.Issue(own, chaintest.Now(-time.Hour), chaintest.DNS("host.example.org"))),
		"alone.pem":   chaintest.PEM(sub.Issue(own, chaintest.Now(year))), "broken.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{1}}),
		"own-key.pem": private, "own-cert.pem": cert(signer(t, 1)), "psk": []byte("interop\n"),
		"peer-key.pem": []byte(signer(t, 2).Public.PublicPEM()), "peer-cert.pem": cert(signer(t, 2)),
	}
}

const year = 365 * 24 * time.Hour

func parse(t testing.TB, text string) (*Config, error) {
	t.Helper()
	all := files(t)
	return Parse("btns.toml", []byte(text), func(name string) ([]byte, error) {
		if b, ok := all[name]; ok {
			return b, nil
		}
		return nil, fmt.Errorf("open %s: no such file", name)
	})
}

// A host without a file has the built-in policy.
func TestDefault(t *testing.T) {
	c, err := Default()
	if err != nil {
		t.Fatal(err)
	}
	want, err := policy.Default()
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(c.Policy, want) || len(c.Peers)+len(c.Warnings) != 0 {
		t.Errorf("%+v\n%+v", c.Policy, want)
	}
	if c.Plane != PlaneAuto || c.Trust != trust.AcceptNew || c.Probe.Mode != probe.All || c.Log != (Log{"text", "info"}) {
		t.Errorf("%+v", c)
	}
}

func full(t *testing.T) *Config {
	t.Helper()
	dir := t.TempDir()
	for name, b := range files(t) {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile("testdata/full.toml")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "btns.toml")
	if err := os.WriteFile(path, text, 0o644); err != nil {
		t.Fatal(err)
	}
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// What is offered without being named begins with what the machine is quick at.
func TestQuickCipherFirst(t *testing.T) {
	for _, aes := range []bool{true, false} {
		c, err := parseOn("btns.toml", nil, nil, aes)
		if err != nil {
			t.Fatal(err)
		}
		want := protect.ChaCha20Poly1305
		if aes {
			want = protect.AESGCM16
		}
		spd := c.Policy.SPD()
		if got := spd[len(spd)-1].Offer[0].Encr; got != want {
			t.Errorf("AES %v: ESP begins with %v", aes, got)
		}
		for _, p := range c.Host().IKE.IKE[:2] {
			if got := p.Encr[0].Encr; got != want {
				t.Errorf("AES %v: IKE begins with %v", aes, got)
			}
		}
	}
}

func TestFullFile(t *testing.T) {
	c := full(t)
	if c.Plane != PlaneTUN || c.Trust != trust.Strict || c.Probe.Mode != probe.Listed || len(c.Probe.List) != 2 || len(c.Listen) != 2 {
		t.Errorf("%+v", c)
	}
	if got := c.Host().Trust.Recycled; len(got) != 2 || got[0] != netip.MustParsePrefix("10.42.0.0/16") {
		t.Errorf("ranges %v are recycled", got)
	}
	if got := c.Host().Listen; len(got) != 2 || got[0] != netip.MustParseAddr("192.0.2.2") || got[1] != netip.MustParseAddr("2001:db8::2") {
		t.Errorf("the host listens on %v", got)
	}
	if len(c.Warnings) != 2 || !strings.Contains(strings.Join(c.Warnings, "\n"), "chmod 600") {
		t.Errorf("%q", c.Warnings)
	}
	p := c.Peers[0]
	if p.Auth != RawKey || !p.OwnKey || p.SendKey || p.Key.Public != signer(t, 1).Public || p.Keys[0] != signer(t, 2).Public ||
		p.Mode != protect.Tunnel || p.Start != Up || !p.Childless || p.Liveness != 2*time.Second ||
		p.RemoteID.String() != "fqdn:a.lab.example" || p.LocalID.String() != "fqdn:b.lab.example" {
		t.Errorf("%+v", p)
	}
	if l := p.Lifetime; l.Soft.Time != 3*time.Second || l.Hard.Time != 8*time.Second || p.IKELife.Soft.Time != 5*time.Second {
		t.Errorf("%+v", l)
	}
	wantIKE := []string{
		"X25519 AES-GCM-128 PRF-HMAC-SHA2-256", "MODP-2048 AES-CBC-256+HMAC-SHA2-256 PRF-HMAC-SHA2-256",
		"X25519+ML-KEM-768 AES-GCM-256 PRF-HMAC-SHA2-384",
	}
	for i, want := range wantIKE {
		if got := p.IKE[i].String(); got != want {
			t.Errorf("IKE %s, want %s", got, want)
		}
	}
	if fmt.Sprint(p.ESP) != "[AES-GCM-128 ESN AES-CBC-256+HMAC-SHA2-256 ESN]" || fmt.Sprint(p.KE) != "[31 19]" {
		t.Errorf("%v %v", p.ESP, p.KE)
	}
	if p := c.Peers[1]; p.Auth != SelfSigned || len(p.Cert) == 0 || p.SendKey || p.Keys[0] != signer(t, 2).Public || p.Mode != protect.Transport {
		t.Errorf("%+v", p)
	}
	for _, p := range c.Peers[2:4] {
		if string(p.Secret) != "interop" || p.RemoteID != identity.AddrID(p.Remote) {
			t.Errorf("%+v", p)
		}
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q"} {
			if s := fmt.Sprintf(verb, p); strings.Contains(s, "interop") || strings.Contains(s, "696e7465") {
				t.Errorf("%s shows the secret: %s", verb, s)
			}
		}
	}
	for i, want := range []identity.IDType{identity.IDFQDN, identity.IDDN, 0, 0, identity.IDNull} {
		if got := c.Peers[i].LocalID.Type; got != want {
			t.Errorf("peer %d calls us %v", i, got)
		}
	}
	if p := c.Peers[4]; p.Name != "192.0.2.6" || p.Auth != Null {
		t.Errorf("%+v", p)
	}
}

// The entries of a file become a policy in which configured peers come before the rest.
func TestPolicyOfFullFile(t *testing.T) {
	c := full(t)
	flow := func(remote string, port uint16) selector.Flow {
		return selector.Flow{Proto: 6, LocalPort: 40000, RemotePort: port, Local: netip.MustParseAddr("192.0.2.2"), Remote: netip.MustParseAddr(remote)}
	}
	for _, tc := range []struct {
		remote   string
		port     uint16
		name     string
		fallback policy.Fallback
		waiting  policy.Waiting
	}{
		{"192.0.2.3", 80, "peer swan-cert", policy.Require, policy.Hold},
		{"192.0.2.200", 23, "no telnet", policy.Require, policy.Hold},
		{"192.0.2.9", 179, "BGP", policy.Require, policy.Hold},
		{"198.18.0.1", 80, "guests", policy.Prefer, policy.Pass},
		{"203.0.113.77", 80, "policy[3]", policy.Require, policy.Hold},
		{"203.0.113.78", 80, "everything else", policy.Never, policy.Hold},
		{"192.0.2.6", 80, "peer 192.0.2.6", policy.Require, policy.Hold},
	} {
		d := c.Policy.Outbound(flow(tc.remote, tc.port))
		if d.Name != tc.name || d.Fallback != tc.fallback || d.Waiting != tc.waiting {
			t.Errorf("%s:%d: %s %v %v", tc.remote, tc.port, d.Name, d.Fallback, d.Waiting)
		}
	}
	if d := c.Policy.Outbound(flow("192.0.2.9", 179)); !strings.HasSuffix(d.Source, "btns.toml:73") || d.PFP != policy.PFPAll || d.MinAssurance != identity.Continuity {
		t.Errorf("%+v", d.Entry)
	}
	if e := c.Policy.Entry("swan-rawkey"); e.Kind != policy.ByID || !e.Constraint.Covers(selector.Set{selector.Host(netip.MustParseAddr("198.51.100.1"))}) {
		t.Errorf("%+v", e)
	}
	if e := c.Policy.Entry("swan-cert"); e.Kind != policy.ByKey || e.Addr != netip.MustParseAddr("192.0.2.3") {
		t.Errorf("%+v", e)
	}
	if d := c.Policy.Outbound(flow("203.0.113.78", 80)); fmt.Sprint(d.Offer) != "[ChaCha20-Poly1305 ESN AES-GCM-128]" || d.Lifetime.Soft.Time != 30*time.Minute {
		t.Errorf("%v %+v", d.Offer, d.Lifetime)
	}
}

func TestKeysAreWrittenInMoreThanOneWay(t *testing.T) {
	k := signer(t, 2).Public
	for _, text := range []string{
		`"` + k.Fingerprint().String() + `"`, `"` + base64.StdEncoding.EncodeToString(k.SPKI()) + `"`, `"peer-key.pem"`,
		`["peer-cert.pem", "` + k.Fingerprint().String() + `"]`,
	} {
		c, err := parse(t, "peer = [{address = '192.0.2.1', auth = 'rawkey', key = "+text+"}]")
		if err != nil {
			t.Fatal(err)
		}
		e, err := c.Policy.FindPAD(policy.Asserted{ID: identity.Null(), Method: policy.Signature, Key: k})
		if err != nil || e.Name != "192.0.2.1" || !c.Peers[0].SendKey {
			t.Errorf("%s: %v, %v", text, e, err)
		}
	}
}

func TestProposals(t *testing.T) {
	for text, want := range map[string]string{
		"aes128gcm16-sha384-x25519":       "X25519 AES-GCM-128 PRF-HMAC-SHA2-384",
		"chacha20poly1305-ecp256":         "P-256 ChaCha20-Poly1305 PRF-HMAC-SHA2-256",
		"aes128-sha512-modp4096":          "MODP-4096 AES-CBC-128+HMAC-SHA2-512 PRF-HMAC-SHA2-512",
		"aes128-sha256-prfsha384-ecp384":  "P-384 AES-CBC-128+HMAC-SHA2-256 PRF-HMAC-SHA2-384",
		"aes128gcm16-prfsha512-modp3072":  "MODP-3072 AES-GCM-128 PRF-HMAC-SHA2-512",
		"aes256gcm16-curve25519":          "X25519 AES-GCM-256 PRF-HMAC-SHA2-256",
		"aes128-x25519":                   "",
		"aes128gcm16":                     "",
		"sha256-x25519":                   "",
		"aes128gcm16-aes256gcm16-x25519":  "",
		"3des-sha1-modp1024":              "",
		"aes128gcm16-x25519-ke1_mlkem768": "X25519+ML-KEM-768 AES-GCM-128 PRF-HMAC-SHA2-256",
	} {
		r := &reader{}
		got := r.ike("k", []string{text})
		if want == "" && len(r.errs) != 1 || want != "" && (len(got) != 1 || got[0].String() != want) {
			t.Errorf("%s: %v, %v", text, got, r.errs)
		}
	}
	if suite.X25519 != 31 { // KE of a Peer are the numbers of IKEv2
		t.Error("key exchange numbers")
	}
}

// Every wrong file gets an error with its place, that says what is wrong and what would be right.
func TestErrors(t *testing.T) {
	peer := "[[peer]]\nname = 'x'\naddress = '192.0.2.1'\n"
	rawkey := peer + "auth = 'rawkey'\nkey = 'peer-key.pem'\n"
	for _, tc := range []struct{ name, text, want string }{
		{"unknown key", "[default]\n  falback = 'prefer'\n", "btns.toml:2:3: default.falback: there is no such key"},
		{"unknown key of a peer", rawkey + "adddress = 'x'\n", "btns.toml:6:1: peer.adddress: there is no such key"},
		{"no TOML", "[default\n", "btns.toml:1:"},
		{"wrong type", "listen = 3\n", "btns.toml:1:10: listen: "},
		{"wrong word", "trust = 'maybe'\n", `btns.toml:1:1: trust: "maybe" is none of accept-new, ask, off, strict`},
		{"not a range", "recycled = ['10.0.0.1/8']\n", `btns.toml:1:1: recycled: "10.0.0.1/8" has bits set behind the prefix length; write "10.0.0.0/8"`},
		{"probe", "probe = 3\n", "btns.toml:1:1: probe: 3 is neither a word nor a list"},
		{"probe list", "probe = ['192.0.2.1/24']\n", "btns.toml:1:1: probe: 192.0.2.1/24 is not a prefix"},
		{"listen", "listen = ['0.0.0.0']\n", `btns.toml:1:1: listen: "0.0.0.0" is not the address of a host`},
		{"listen nowhere", "listen = []\n", `btns.toml:1:1: listen: an empty list is no address`},
		{"a peer where IKE is not spoken", "listen = ['192.0.2.9']\n" + rawkey + "local_address = '192.0.2.8'\n", "btns.toml:7:1: peer[0].local_address: listen does not have it"},
		{"no address", "[[peer]]\nauth = 'psk'\npsk = 'x'\n", "btns.toml:1:3: peer[0].address: it is missing"},
		{"no auth", peer, "btns.toml:1:3: peer[0].auth: it is missing"},
		{"second peer", rawkey + "[[peer]]\naddress = 'nonsense'\n", "btns.toml:7:1: peer[1].address: \"nonsense\" is not"},
		{"name twice", rawkey + rawkey, `btns.toml:7:1: peer[1].name: another peer is called "x"`},
		{"families", rawkey + "local_address = '2001:db8::1'\n", "peer[0].local_address: it and address are of different"},
		{"no key", peer + "auth = 'rawkey'\n", "peer[0].key: it is missing"},
		{"no such file", peer + "auth = 'rawkey'\nkey = 'nothing.pem'\n", "btns.toml:5:1: peer[0].key: open nothing.pem"},
		{"not a key", peer + "auth = 'rawkey'\nkey = 'psk'\n", "peer[0].key: psk: identity: unusable public key: no PEM"},
		{"not a fingerprint", peer + "auth = 'rawkey'\nkey = 'SHA256:xx'\n", "peer[0].key: identity: not a fingerprint"},
		{"key of a wrong type", peer + "auth = 'rawkey'\nkey = [3]\n", "peer[0].key: 3 is not a key"},
		{"not a private key", rawkey + "own_key = 'psk'\n", "peer[0].own_key: psk: identity: unusable private key"},
		{"certificate with rawkey", rawkey + "certificate = 'own-cert.pem'\n", `peer[0].certificate: it is sent with auth "selfsigned" only`},
		{"certificate without key", peer + "auth='selfsigned'\nkey='peer-key.pem'\ncertificate='own-cert.pem'\n", "it needs own_key beside it"},
		{"certificate of another key", peer + "auth='selfsigned'\nkey='peer-key.pem'\nown_key='own-key.pem'\ncertificate='peer-cert.pem'\n", "is of the key"},
		{"no certificate", peer + "auth='selfsigned'\nkey='peer-key.pem'\nown_key='own-key.pem'\ncertificate='psk'\n", "no certificate in it"},
		{"psk with rawkey", rawkey + "psk = 'x'\n", `btns.toml:6:1: peer[0].psk: it means nothing with auth "rawkey"`},
		{"key with psk", peer + "auth='psk'\npsk='x'\nkey='y'\n", "peer[0].key: it means nothing"},
		{"no psk", peer + "auth = 'psk'\n", "peer[0].psk: the shared secret is missing"},
		{"two psk", peer + "auth='psk'\npsk='x'\npsk_file='psk'\n", "remove one"},
		{"psk hex", peer + "auth='psk'\npsk='0x6a7'\n", "peer[0].psk: after 0x"},
		{"half a tunnel", rawkey + "local = ['192.0.2.0/24']\n", "peer[0].mode: tunnel mode needs local and remote"},
		{"transport with prefixes", rawkey + "mode='transport'\nlocal=['192.0.2.0/24']\n", "transport mode is between"},
		{"prefix", rawkey + "local=['192.0.2.1/24']\nremote=['x']\n", `write "192.0.2.0/24"`},
		{"ID", rawkey + "id = 'a b'\n", "btns.toml:6:1: peer[0].id: identity: not an identity"},
		{"proposal", rawkey + "ike = ['3des']\n", `peer[0].ike: proposal "3des": "3des" is not known`},
		{"ESP with a PRF", rawkey + "esp = ['aes128gcm16-prfsha256']\n", "ESP has no PRF"},
		{"time", rawkey + "dpd = '2'\n", `peer[0].dpd: "2" is not a time`},
		{"lifetime", rawkey + "rekey='1h'\nlifetime='1m'\n", "peer[0].lifetime: 1m0s ends before"},
		{"IKE lifetime", rawkey + "ike_lifetime='1m'\n", "peer[0].ike_lifetime: 1m0s ends before"},
		{"two without authentication", peer + "auth='null'\n[[peer]]\nname='y'\naddress='192.0.2.2'\nauth='null'\n", `"x" has no authentication already`},
		{"null_ok beside one", peer + "auth='null'\n[default]\nnull_ok=true\n", "btns.toml:6:1: default.null_ok: peer"},
		{"no action", "[[policy]]\n", "btns.toml:1:3: policy[0].action: it is missing"},
		{"selector", "[[policy]]\naction='bypass'\nremote=['any tcp/http', '1.2.3.4/8']\n", "btns.toml:3:1: policy[0].remote: selector"},
		{"no selector", "[[policy]]\naction='bypass'\nremote=[]\n", "matches nothing"},
		{"flag on a bypass (CORE-20)", "[[policy]]\naction='bypass'\nbtns_ok=true\n", `policy[0].btns_ok: it is for action "protect" only`},
		{"pass what is required", "[[policy]]\naction='protect'\nwaiting='pass'\n", "policy[0].waiting: what fallback"},
		{"no such peer", "[[policy]]\naction='protect'\npeer='z'\n", `there is no [[peer]] called "z"`},
		{"taken name", "[[peer]]\nname='anyone'\naddress='192.0.2.1'\nauth='psk'\npsk='x'\n", `policy: PAD entry "anyone"`},
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

// All that is wrong is said at once, in the order of the file.
func TestAllErrorsAtOnce(t *testing.T) {
	_, err := parse(t, "trust = 'x'\nplane = 'y'\n[[peer]]\nauth = 'z'\n")
	var lines []string
	for line := range strings.Lines(err.Error()) {
		lines = append(lines, line)
	}
	if len(lines) != 4 || !strings.HasPrefix(lines[0], "btns.toml:1:1: trust") || !strings.HasPrefix(lines[1], "btns.toml:2:1: plane") {
		t.Errorf("%q", lines)
	}
	if _, err := Load(filepath.Join(t.TempDir(), "none.toml")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
	if _, err := Parse("", []byte("[[peer]]\naddress='192.0.2.1'\nauth='rawkey'\nkey='x.pem'"), nil); err == nil {
		t.Error("files cannot be read")
	}
}

// docs/config.md names every key.
func TestManualIsComplete(t *testing.T) {
	manual, err := os.ReadFile("../docs/config.md")
	if err != nil {
		t.Fatal(err)
	}
	var walk func(table string, s reflect.Type)
	walk = func(table string, s reflect.Type) {
		for i := range s.NumField() {
			f := s.Field(i)
			name, typ := f.Tag.Get("toml"), f.Type
			if typ.Kind() == reflect.Slice && typ.Elem().Kind() == reflect.Struct {
				typ = typ.Elem()
			}
			if typ.Kind() == reflect.Struct {
				walk(name, typ)
				continue
			}
			part := string(manual)
			if table != "" {
				_, part, _ = strings.Cut(strings.ReplaceAll(strings.ReplaceAll(part, "[[", "["), "]]", "]"), "\n## ["+table+"]")
				part, _, _ = strings.Cut(part, "\n## ")
			}
			if !strings.Contains(part, "| `"+name+"` |") {
				t.Errorf("%s.%s is not described", table, name)
			}
		}
	}
	walk("", reflect.TypeFor[file]())
}

// The examples of the manual are files that load.
func TestExamplesOfManual(t *testing.T) {
	manual, err := os.ReadFile("../docs/config.md")
	if err != nil {
		t.Fatal(err)
	}
	rest, n := string(manual), 0
	for {
		_, after, ok := strings.Cut(rest, "```toml\n")
		if !ok {
			break
		}
		example, tail, _ := strings.Cut(after, "```")
		if _, err := parse(t, example); err != nil {
			t.Errorf("%s\n%v", example, err)
		}
		rest, n = tail, n+1
	}
	if n < 4 {
		t.Errorf("%d examples", n)
	}
}
