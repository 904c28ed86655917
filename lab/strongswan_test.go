//go:build lab

package lab

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/lab/netlab"
)

// meeting is btns as host a against strongSwan as host b, in tunnel mode between their inner addresses.
type meeting struct {
	name    string
	kase    string
	auth    string   // of our configuration: "psk", "rawkey", "selfsigned", "x509"
	id      string   // of strongSwan; default: b.lab.example
	v6      bool     // outside and inside
	key     string   // type of the keys
	ike     string   // proposal
	esp     string   // proposal
	config  []string // further lines of our [[peer]]
	prepare func(a *netlab.Host)
	then    func(t *testing.T, m *met) // while the link is watched
	after   func(t *testing.T, m *met) // and when it is not
}

// met is a meeting that has taken place.
type met struct {
	a, b    *netlab.Host
	wire    *netlab.Host
	btns    *netlab.Btns
	peer    *netlab.StrongSwan
	from    string // inner addresses
	to      string
	outside string // of strongSwan
}

const (
	defaultIKE = "aes128gcm16-prfsha256-x25519"
	defaultESP = "aes128gcm16"
)

// The cases in which strongSwan speaks with us, each once as responder and once as initiator.
func TestStrongSwan(t *testing.T) {
	t.Parallel()
	for _, m := range []meeting{
		{name: "raw public keys", kase: "rawkey", auth: "rawkey"},
		{name: "raw public keys, P-256", kase: "rawkey", auth: "rawkey", key: "ecdsa256"},
		{name: "raw public keys, RSA", kase: "rawkey", auth: "rawkey", key: "rsa2048"},
		{name: "self-signed certificates", kase: "selfsigned", auth: "selfsigned"},
		{name: "self-signed certificates, P-256", kase: "selfsigned", auth: "selfsigned", key: "ecdsa256"},
		{name: "certificates of an authority", kase: "x509", auth: "x509", then: wasCertified},
		{name: "certificates of an authority, P-256", kase: "x509", auth: "x509", key: "ecdsa256"},
		{name: "certificates of an authority, RSA, one of a range", kase: "x509", auth: "x509", key: "rsa2048", id: "*.lab.example"},
		{name: "certificates of an authority, subjects", kase: "x509dn", auth: "x509", id: "CN=b.lab.example, O=lab, C=XX", config: []string{`local_id = "CN=a.lab.example, O=lab, C=XX"`}},
		{name: "shared key", kase: "psk", auth: "psk"},
		{name: "IPv6", kase: "v6", auth: "psk", v6: true},
		{name: "fragments", kase: "fragment", auth: "selfsigned", key: "rsa3072", then: sawFragments},
		{name: "cookie", kase: "cookie", auth: "psk", prepare: func(a *netlab.Host) { a.HalfOpen(netlab.B4) }},
		{name: "childless", kase: "childless", auth: "rawkey", esp: "aes128gcm16-x25519", config: []string{"childless = true"}},
		{name: "P-256 and ChaCha20-Poly1305", kase: "psk", auth: "psk", ike: "aes128-sha256-ecp256", esp: "chacha20poly1305"},
		{name: "MODP-2048 and AES-CBC", kase: "psk", auth: "psk", ike: "aes256-sha256-modp2048", esp: "aes128-sha256"},
		{name: "ChaCha20-Poly1305 and AES-256-CBC", kase: "psk", auth: "psk", ike: "chacha20poly1305-prfsha512-x25519", esp: "aes256-sha512"},
		{name: "P-384 and AES-256-GCM", kase: "psk", auth: "psk", ike: "aes256gcm16-prfsha384-ecp384", esp: "aes256gcm16"},
		{name: "rekeying", kase: "rekey", auth: "psk", esp: "aes128gcm16-x25519", then: steadyPing},
		{
			name: "rekeying by both", kase: "rekey", auth: "psk", esp: "aes128gcm16-x25519",
			config: []string{`rekey = "3s"`, `lifetime = "8s"`, `ike_rekey = "5s"`, `ike_lifetime = "10s"`}, then: steadyPing,
		},
		{name: "dead peer detection", kase: "dpd", auth: "psk", then: livenessAnswered, after: strongSwanNotices},
		{name: "dead peer detection by us", kase: "psk", auth: "psk", config: []string{`dpd = "2s"`}, after: weNotice},
	} {
		for _, we := range []string{"initiate", "respond"} {
			t.Run(m.name+"/we "+we, func(t *testing.T) {
				t.Parallel()
				m.run(t, we == "initiate")
			})
		}
	}
}

func (m meeting) run(t *testing.T, initiate bool) {
	l := netlab.New(t)
	a, b, wire := l.Pair()
	l.Inner(a, b)
	options := []string{}
	for name, value := range map[string]string{"key": m.key, "ike": m.ike, "esp": m.esp} {
		if value != "" {
			options = append(options, name+"="+value)
		}
	}
	c := l.Case(m.kase, options...)
	got := &met{a: a, b: b, wire: wire, from: netlab.AIn4, to: netlab.BIn4, outside: netlab.B4}
	child := "net"
	if m.v6 {
		got.from, got.to, got.outside, child = netlab.AIn6, netlab.BIn6, netlab.B6, "net6"
	}
	got.peer = b.StrongSwan(c.B)
	if m.prepare != nil && initiate {
		m.prepare(a)
	}
	got.btns = a.Btns(m.toml(c.A, got, initiate))
	clear := wire.CaptureClear("a")
	if initiate {
		netlab.Until(t, 15*time.Second, "the first packet raises the SAs and arrives", func() error {
			return a.Reaches(got.to, "-I", got.from)
		})
	} else if err := got.peer.Initiate(child); err != nil {
		t.Fatal(err)
	}
	got.peer.Established(5 * time.Second)
	if n := a.Ping(got.to, 5, "-I", got.from); n != 5 {
		t.Errorf("%d of 5 pings to strongSwan came back", n)
	}
	if n := b.Ping(got.from, 5, "-I", got.to, "-s", "1300"); n != 5 {
		t.Errorf("%d of 5 pings from strongSwan came back", n)
	}
	if in, out := got.peer.Carried(); m.then == nil && (in < 10 || out < 10) {
		t.Errorf("strongSwan's child SA has carried %d packets in, %d out", in, out)
	}
	if m.kase == "cookie" && initiate && !strings.Contains(got.peer.Log(), "N(COOKIE)") {
		t.Error("no cookie was asked for")
	}
	if m.then != nil {
		m.then(t, got)
	}
	clear.Stop()
	clear.NothingClear()
	if m.after != nil {
		m.after(t, got)
	}
}

// toml is our configuration for the meeting.
func (m meeting) toml(dir string, got *met, initiate bool) string {
	ike, esp := m.ike, m.esp
	if ike == "" {
		ike = defaultIKE
	}
	if esp == "" {
		esp = defaultESP
	}
	bits := "32"
	if m.v6 {
		bits = "128"
	}
	start := "listen"
	if initiate {
		start = "on-demand"
	}
	lines := []string{
		"[[peer]]", `name = "strongswan"`, fmt.Sprintf("address = %q", got.outside), fmt.Sprintf("auth = %q", m.auth),
		fmt.Sprintf("id = %q", cmp.Or(m.id, "b.lab.example")),
		fmt.Sprintf("local = [%q]", got.from+"/"+bits), fmt.Sprintf("remote = [%q]", got.to+"/"+bits),
		fmt.Sprintf("ike = [%q]", ike), fmt.Sprintf("esp = [%q]", esp), fmt.Sprintf("start = %q", start),
	}
	file := func(key, path string) { lines = append(lines, fmt.Sprintf("%s = %q", key, filepath.Join(dir, path))) }
	switch m.auth {
	case "psk":
		lines = append(lines, `psk = "interop"`)
	case "rawkey":
		file("own_key", "private/self.pem")
		file("key", "pubkey/peer.pem")
	case "x509":
		file("ca", "x509ca/root.pem")
		file("certificate", "chain.pem")
		file("own_key", "private/self.pem")
	case "selfsigned":
		file("own_key", "private/self.pem")
		file("certificate", "x509/self.pem")
		file("key", "x509/peer.pem")
	}
	if m.id == "" {
		lines = append(lines, `local_id = "a.lab.example"`)
	}
	return strings.Join(append(lines, m.config...), "\n") + "\n"
}

// wasCertified: each side has verified the other up to the root, by what it was sent, and we say so.
func wasCertified(t *testing.T, m *met) {
	log := m.peer.Log()
	for _, part := range []string{`using certificate "C=XX, O=lab, CN=a.lab.example"`, `using untrusted intermediate certificate "C=XX, O=lab, CN=sub a"`, `reached self-signed root ca`} {
		if !strings.Contains(log, part) {
			t.Errorf("strongSwan's log does not say %q", part)
		}
	}
	told := m.btns.Run("explain", m.outside)
	for _, part := range []string{"proves fqdn:b.lab.example under the authority \"CN=root,O=lab,C=XX\"", "verified"} {
		if !strings.Contains(told, part) {
			t.Errorf("%q is not in\n%s", part, told)
		}
	}
}

func sawFragments(t *testing.T, m *met) {
	for _, part := range []string{"received fragment", "splitting IKE message"} {
		if !strings.Contains(m.peer.Log(), part) {
			t.Errorf("strongSwan's log does not say %q", part)
		}
	}
}

// steadyPing sees the SAs replaced many times under traffic, and loses nothing.
func steadyPing(t *testing.T, m *met) {
	const n = 200 // 20 s
	if back := m.a.Ping(m.to, n, "-I", m.from); back != n {
		t.Errorf("%d of %d pings came back while SAs were rekeyed", back, n)
	}
	log := m.peer.Log()
	if children := strings.Count(log, "CHILD_SA net{"); children < 5 {
		t.Errorf("strongSwan's log has child SAs in %d lines: too few for 20 s of rekeying", children)
	}
	if !strings.Contains(log, "IKE_SA lab[2]") {
		t.Error("strongSwan's log has no second IKE SA")
	}
	netlab.Until(t, 10*time.Second, "one IKE SA is left", func() error {
		if sas := m.peer.SAs(); strings.Count(sas, "ESTABLISHED") != 1 {
			return fmt.Errorf("it has\n%s", sas)
		}
		return nil
	})
}

// livenessAnswered: strongSwan asks, and we answer.
func livenessAnswered(t *testing.T, m *met) {
	netlab.Until(t, 15*time.Second, "two liveness checks were answered", func() error {
		log := m.peer.Log()
		if strings.Count(log, "sending DPD request") < 2 || strings.Count(log, "parsed INFORMATIONAL response") < 2 {
			return errors.New("not yet")
		}
		return nil
	})
}

// strongSwanNotices that we are gone.
func strongSwanNotices(t *testing.T, m *met) {
	m.btns.Crash()
	netlab.Until(t, 30*time.Second, "strongSwan notices that we are gone", func() error {
		if sas := m.peer.SAs(); strings.Contains(sas, "INSTALLED") {
			return fmt.Errorf("it has\n%s", sas)
		}
		return nil
	})
}

// weNotice that strongSwan is gone, and do not go on in clear.
func weNotice(t *testing.T, m *met) {
	clear := m.wire.CaptureClear("a")
	m.peer.Kill()
	netlab.Until(t, 60*time.Second, "we notice that strongSwan is gone", func() error {
		_ = m.a.Reaches(m.to, "-I", m.from)
		if p := m.btns.Peer(m.outside); p.SAs != 0 {
			return fmt.Errorf("it says %+v", p)
		}
		return nil
	})
	clear.Stop()
	if leaked := clear.Packets("src " + m.from); len(leaked) > 0 {
		t.Errorf("%d packets for the tunnel went in clear: %s", len(leaked), leaked[0])
	}
}
