package control

import (
	"context"
	"errors"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/host"
	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/policy"
	"github.com/btns-ipsec/btns/selector"
)

// applied is what the fake was given.
type applied struct {
	document Document
	revert   time.Duration
}

func (f *fake) Reload(context.Context) (Applied, error) {
	return Applied{Text: []string{"peer \"x\" added"}, Warnings: []string{"w"}}, f.fail
}

func (f *fake) Apply(_ context.Context, d Document, revert time.Duration) (Applied, error) {
	f.applied = applied{d, revert}
	return Applied{Text: []string{"done"}, Reverts: &when}, f.fail
}

func (f *fake) Confirm(context.Context) (Applied, error) {
	return Applied{Text: []string{"confirmed"}}, f.fail
}

func (f *fake) TestPolicy(_ context.Context, flow selector.Flow) (host.PolicyTest, error) {
	return host.PolicyTest{
		Flow: flow, Entry: "rule", Source: "btns.toml:3", Action: policy.Protect, Fallback: policy.Prefer, Waiting: policy.Pass,
		MinAssurance: identity.Continuity, Peers: []string{"anyone"}, Verdict: "is protected", Inbound: "accepted", Notes: []string{"n"},
	}, f.fail
}

// What changes the configuration arrives whole: text, files, and the time after which it is taken back.
func TestConfiguration(t *testing.T) {
	f := &fake{}
	c := serve(t, f)
	d := Document{Name: "new.toml", Text: []byte("a = \"\xff\""), Files: map[string][]byte{"key.pem": {0, 1, 255}}}
	a, err := c.Apply(t.Context(), d, 1500*time.Millisecond)
	if err != nil || !reflect.DeepEqual(a.Text, []string{"done"}) || a.Reverts == nil || !a.Reverts.Equal(when) {
		t.Errorf("%+v, %v", a, err)
	}
	if !reflect.DeepEqual(f.applied, applied{d, 1500 * time.Millisecond}) {
		t.Errorf("the daemon was given %+v", f.applied)
	}
	if a, err := c.Reload(t.Context()); err != nil || len(a.Text) != 1 || len(a.Warnings) != 1 || a.Reverts != nil {
		t.Errorf("%+v, %v", a, err)
	}
	if a, err := c.Confirm(t.Context()); err != nil || a.Text[0] != "confirmed" {
		t.Errorf("%+v, %v", a, err)
	}
	if _, err := c.Apply(t.Context(), d, 2*time.Hour); err == nil {
		t.Error("a trial of two hours is taken")
	}
	for _, input := range []bool{false, true} {
		f.fail = &Error{Text: "no", Hint: "do", Input: input}
		_, err := c.Reload(t.Context())
		var e *Error
		if !errors.As(err, &e) || *e != (Error{"no", "do", input}) {
			t.Errorf("%#v", err)
		}
	}
}

func TestPolicyQuestion(t *testing.T) {
	c := serve(t, &fake{})
	f := selector.Flow{Proto: selector.UDP, Local: addr, Remote: addr.Next(), LocalPort: 1, RemotePort: 65535}
	got, err := c.TestPolicy(t.Context(), f)
	want := PolicyTest{
		Local: "192.0.2.7", Remote: "192.0.2.8", Proto: 17, LocalPort: 1, RemotePort: 65535, Entry: "rule", Source: "btns.toml:3",
		Action: "protect", Fallback: "prefer", Waiting: "pass", MinAssurance: "continuity", Peers: []string{"anyone"},
		Verdict: "is protected", Inbound: "accepted", Notes: []string{"n"},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := c.TestPolicy(t.Context(), selector.Flow{Local: addr, Remote: netip.Addr{}}); err == nil {
		t.Error("a packet to nowhere")
	}
	for _, bad := range []map[string]string{
		{"local": "192.0.2.7"},
		{"remote": "192.0.2.7"},
		{"local": "192.0.2.7", "remote": "192.0.2.8", "proto": "256"},
		{"local": "192.0.2.7", "remote": "192.0.2.8", "remote_port": "x"},
	} {
		if _, err := flowOf(func(k string) string { return bad[k] }); err == nil {
			t.Errorf("%v is a packet", bad)
		}
	}
}
