//go:build lab

package lab

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/lab/netlab"
)

// certified is the part of a configuration that says who we are, by a directory that make-case.sh has made, and who may certify
// others.
func certified(dir, ca string) string {
	return fmt.Sprintf("[x509]\nca = %q\ncertificate = %q\nown_key = %q\n",
		filepath.Join(ca, "x509ca", "root.pem"), filepath.Join(dir, "chain.pem"), filepath.Join(dir, "private", "self.pem"))
}

// A host serves a port to those whom its authority has certified, wherever they come from, and another to everybody that is nothing
// but a key. When the authority is replaced by another one, the first are turned away with the reason, and the others stay.
func TestCertifiedBesideUnknown(t *testing.T) {
	t.Parallel()
	const c4 = "192.0.2.3"
	l := netlab.New(t)
	a, b, c := l.Host("a"), l.Host("b"), l.Host("c")
	wire := l.Switch("s", a, b, c)
	a.Addr("eth0", netlab.A4+"/24")
	b.Addr("eth0", netlab.B4+"/24")
	c.Addr("eth0", c4+"/24")
	a.Serve(":8080", page)
	a.Serve(":80", page)
	keys, others := l.Case("x509"), l.Case("x509dn")
	rest := `
[[peer]]
name = "staff"
auth = "x509"
id = "*.lab.example"

[[policy]]
name = "for staff"
local = ["any tcp/8080"]
action = "protect"
peer = "staff"
`
	da := a.Btns(certified(keys.A, keys.A) + rest)
	db := b.Btns(certified(keys.B, keys.B) + fmt.Sprintf("[[peer]]\nname = \"a\"\naddress = %q\nauth = \"x509\"\nid = \"a.lab.example\"\n", netlab.A4))
	dc := c.Btns("")
	dc.Wait(netlab.A4)
	db.Wait(netlab.A4)
	refused := func(h *netlab.Host, port int) {
		t.Helper()
		if out, err := h.Try(10*time.Second, "curl", "-sS", "--max-time", "3", "--noproxy", "*", fmt.Sprintf("http://%s:%d", netlab.A4, port)); err == nil {
			t.Errorf("%s is served on port %d: %s", h.Name, port, out)
		}
	}
	clear := wire.CaptureClear("a")
	fetch(t, b, "http://"+netlab.A4+":8080")
	fetch(t, c, "http://"+netlab.A4)
	refused(c, 8080)
	if p, q := da.Peer(netlab.B4), da.Peer(c4); p.Assurance != "verified" || q.Assurance == "verified" || p.SAs == 0 || q.SAs == 0 {
		t.Errorf("%+v\n%+v", p, q)
	}
	if p := db.Peer(netlab.A4); p.Assurance != "verified" {
		t.Errorf("%+v", p)
	}

	a.Lab().WriteFile("a.toml", certified(keys.A, others.A)+rest)
	da.Run("reload")
	refused(b, 8080)
	netlab.Until(t, 15*time.Second, "the refusal is logged with its reason", func() error {
		return netlab.Contains(da.Log(), "reason=certificate-unknown-issuer")
	})
	fetch(t, c, "http://"+netlab.A4)
	if p := db.Peer(netlab.A4); p.State == "protected" {
		t.Errorf("%+v", p)
	}
	a.Lab().WriteFile("a.toml", certified(keys.A, keys.A)+rest)
	da.Run("reload")
	netlab.Until(t, 60*time.Second, "the old authority is back, and b is served", func() error {
		_, err := b.Try(10*time.Second, "curl", "-sS", "--max-time", "3", "--noproxy", "*", "http://"+netlab.A4+":8080")
		return err
	})
	clear.Stop()
	if leaked := clear.Packets("tcp"); len(leaked) > 0 {
		t.Errorf("%d packets went in clear: %s", len(leaked), leaked[0])
	}
}
