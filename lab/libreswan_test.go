//go:build lab

package lab

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/lab/netlab"
)

// pluto, above a kernel that only claims to have ESP: IKE_AUTH and the child's negotiation, with a shared key in tunnel
// mode and without authentication in transport mode (RFC 7619), agreed upon or because a packet has asked for it.
func TestLibreswan(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, config  string
		opportunistic bool
	}{
		{name: "psk", config: `
[[peer]]
name = "pluto"
address = "192.0.2.2"
auth = "psk"
psk = "interop"
id = "b.lab.example"
local_id = "a.lab.example"
local = ["198.51.100.1/32"]
remote = ["203.0.113.1/32"]
`},
		{name: "null", config: `
[[peer]]
name = "pluto"
address = "192.0.2.2"
auth = "null"
`},
		{name: "oe", opportunistic: true, config: `
[[peer]]
name = "pluto"
address = "192.0.2.2"
auth = "null"
`},
	} {
		for _, we := range []string{"initiate", "respond"} {
			t.Run(tt.name+"/we "+we, func(t *testing.T) {
				t.Parallel()
				l := netlab.New(t)
				a, b, _ := l.Pair()
				l.Inner(a, b)
				p := b.Libreswan(tt.name, "b")
				start := map[string]string{"initiate": "up", "respond": "listen"}[we]
				d := a.Btns(tt.config + fmt.Sprintf("ike = [%q]\nesp = [%q]\nstart = %q\n", defaultIKE, defaultESP, start))
				switch {
				case we == "initiate":
				case tt.opportunistic:
					b.Ping(netlab.A4, 1, "-W", "1")
				default:
					if out, err := p.Initiate(); err != nil {
						t.Fatalf("%v\n%s", err, out)
					}
				}
				netlab.Until(t, 15*time.Second, "pluto has its child SA", func() error { return netlab.Contains(p.Status(), "ESP") })
				netlab.Until(t, 5*time.Second, "we have ours", func() error {
					if peer := d.Peer(netlab.B4); peer.SAs == 0 {
						return fmt.Errorf("it says %+v", peer)
					}
					return nil
				})
				if tt.name != "psk" {
					if peer := d.Peer(netlab.B4); peer.Assurance != "encrypted" || peer.Name != "" {
						t.Errorf("a peer without a key is shown as %+v", peer)
					}
				}
				if strings.Contains(p.Log(), "AUTHENTICATION_FAILED") {
					t.Error("pluto's log has AUTHENTICATION_FAILED")
				}
			})
		}
	}
}
