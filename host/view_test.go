package host

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/dataplane"
	"github.com/btns-ipsec/btns/dataplane/flow"
	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/ikev2"
	"github.com/btns-ipsec/btns/policy"
)

// strictOf is the policy of c without the entry for everything else.
func strictOf(t *testing.T, c *Config) *policy.Policy {
	t.Helper()
	var spd []policy.Entry
	for _, e := range c.Policy.SPD() {
		if e.Name != "everything else" {
			spd = append(spd, e)
		}
	}
	p, err := policy.New(spd, c.Policy.PAD())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// What `btns peers` and `btns status` show of one protected peer.
func TestViews(t *testing.T) {
	w := newWorld(t)
	a, b := w.meet()
	v := a.h.Peers(w.now)
	if len(v) != 1 {
		t.Fatalf("%d peers", len(v))
	}
	p := v[0]
	if p.Addr != addrB || p.State != StateProtected || p.Key != b.cfg.Signer.Public.Fingerprint() || p.Method != "signature" ||
		p.Assurance < identity.FirstUse || p.IKE == "" || !p.Initiator || !p.Btns || p.NAT != "" || p.FirstSeen.IsZero() {
		t.Errorf("%+v", p)
	}
	if len(p.Children) != 1 || !p.Children[0].Sending || p.Children[0].Counters.PacketsOut == 0 {
		t.Errorf("%+v", p.Children)
	}
	s := a.h.Status(w.now)
	if s.Protected != 1 || s.IKESAs != 1 || s.Children != 1 || s.Pins != 1 || s.Promised != 0 || len(s.Problems) != 0 ||
		s.Key != a.cfg.Signer.Public.Fingerprint() || !s.Since.Equal(epoch) {
		t.Errorf("%+v", s)
	}
	if len(a.h.Records()) != 1 {
		t.Error("no records")
	}
	if _, err := json.Marshal([]any{v, s}); err != nil {
		t.Error(err)
	}
}

// Status counts states, names problems, and tells drops by reason.
func TestStatusOfTrouble(t *testing.T) {
	w := newWorld(t)
	a, b := w.meet()
	b.kill()
	a.boot()
	w.lose = nobody
	a.acquire(addrB)
	if s := a.h.Status(w.now); s.Probing != 1 {
		t.Errorf("%+v", s)
	}
	w.pass(3 * time.Minute)
	if s := a.h.Status(w.now); s.Outage != 1 || len(s.Problems) != 1 || !strings.Contains(s.Problems[0], "btns trust forget") {
		t.Errorf("%+v", s)
	}
	w.lose = nil
	w.box("evil", addrB)
	a.acquire(addrB)
	if s := a.h.Status(w.now); s.Refused != 1 || len(s.Problems) != 1 || !strings.Contains(s.Problems[0], "btns trust accept") {
		t.Errorf("%+v", s)
	}
	a.plane(dataplane.Dropped{Remote: addrC, Reason: flow.NoSA, Count: 3})
	a.plane(dataplane.Dropped{Remote: addrC, Reason: 255, Count: 1})
	if s := a.h.Status(w.now); s.Drops[flow.NoSA.String()] != 3 || a.count(PacketsDropped) != 2 {
		t.Errorf("%+v", s.Drops)
	}
	a.plane(dataplane.Datagram{Local: ap(addrA, 500), Remote: ap(addrC, 500), Data: []byte("nonsense")})
	found := false
	for reason := range a.h.Status(w.now).Drops {
		found = found || strings.HasPrefix(reason, "ike-")
	}
	if !found {
		t.Error("a malformed message is not counted")
	}
}

// `btns explain` tells the whole story, in every state.
func TestExplain(t *testing.T) {
	w := newWorld(t)
	a := w.box("a", addrA)
	has := func(port uint16, parts ...string) {
		t.Helper()
		e := a.h.Explain(w.now, addrB, port)
		text := strings.Join(append(e.Story(), e.Entry, e.Hint, string(e.State)), "\n")
		for _, part := range parts {
			if !strings.Contains(text, part) {
				t.Errorf("lacks %q:\n%s", part, text)
			}
		}
	}
	has(0, "everything else", "has not been tried", "btns wait", "any peer with a key")
	has(80, "everything else")
	w.lose = nobody
	a.acquire(addrB)
	has(0, "probing")
	w.pass(30 * time.Second)
	has(0, "no answer", "left alone until")
	w.lose = nil
	b := w.box("b", addrB)
	a.do(Connect{Remote: addrB})
	w.talk(a, b)
	has(0, "protected", "an IKE SA since", " in, ", " out, ", "packets", "is recorded for this address", "never goes in clear")
	b.kill()
	a.boot()
	a.acquire(addrB)
	w.pass(3 * time.Minute)
	has(0, "outage", "1 attempt failed", "btns trust forget")
}

// What an SPD entry does, in words.
func TestTellEntry(t *testing.T) {
	for _, c := range []struct {
		entry policy.Entry
		want  string
	}{
		{policy.Entry{Action: policy.Bypass}, "bypass"},
		{policy.Entry{Action: policy.Protect}, "authenticated peers only"},
		{policy.Entry{Action: policy.Protect, BtnsOK: true}, "any peer with a key"},
		{policy.Entry{Action: policy.Protect, NullOK: true}, "even without a key"},
		{policy.Entry{Action: policy.Protect, Peer: "x"}, `peer "x" only`},
	} {
		if got := tellEntry(policy.Decision{Entry: &c.entry}); !strings.Contains(got, c.want) {
			t.Errorf("%q lacks %q", got, c.want)
		}
	}
}

// Names that programs read.
func TestNames(t *testing.T) {
	for m, want := range map[ikev2.Method]string{ikev2.Signature: "signature", ikev2.SharedKey: "shared-key", ikev2.Null: "null", 0: ""} {
		if got := methodName(m); got != want {
			t.Errorf("method %v: %q", m, got)
		}
	}
	for n, want := range map[ikev2.NAT]string{{}: "", {Us: true}: "us", {Peer: true}: "peer", {Us: true, Peer: true}: "both"} {
		if got := natName(n); got != want {
			t.Errorf("NAT %v: %q", n, got)
		}
	}
}

// Why an attempt failed, in words: whether it was the peer that refused, or anybody.
func TestWhyFailed(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{nil, "given up"},
		{&ikev2.NoAnswerError{Sent: 3}, "no answer to 3"},
		{&ikev2.RefusedError{Notify: 14, Authenticated: true}, "the peer refused"},
		{&ikev2.RefusedError{Notify: 14}, "without proof that it was the peer"},
		{errors.New("something else"), "something else"},
	} {
		if got := outcomeOf(c.err, false).why; !strings.Contains(got, c.want) {
			t.Errorf("%v: %q", c.err, got)
		}
	}
}

// An address that a NAT shares among hosts, of which one is the peer, goes on accepting clear packets.
func TestUpgradeStaysBehindNAT(t *testing.T) {
	w := newWorld(t)
	a := w.box("a", addrA)
	b := w.box("b", addrB)
	a.acquire(addrB)
	p := a.h.peers[addrB]
	p.session().nat.Peer = true
	b.packet(a)
	w.pass(upgradeTime)
	a.want(addrB, StateProtected, flow.Upgrade)
}
