package control

import (
	"bytes"
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/host"
	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/trust"
)

func (f *fake) Own(context.Context) (host.OwnView, error) { return f.own, f.fail }

func (f *fake) Rotate(_ context.Context, lead time.Duration) ([]host.Report, error) {
	f.kept = append(f.kept, "rotate "+lead.String())
	return f.answers, f.fail
}

func (f *fake) TakeBack(context.Context) ([]host.Report, error) {
	f.kept = append(f.kept, "take back")
	return f.answers, f.fail
}

func (f *fake) RevokeOwn(context.Context) ([]host.Report, error) {
	f.kept = append(f.kept, "revoke")
	return f.answers, f.fail
}

func (f *fake) Statement() ([]byte, error) { return []byte("statement"), f.fail }

func signer(t *testing.T, n byte) identity.Signer {
	t.Helper()
	s, err := identity.NewEd25519(bytes.NewReader(bytes.Repeat([]byte{n}, 32)))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// What the daemon knows of its own keys reaches the client.
func TestOwnKeys(t *testing.T) {
	k1, k2, k3 := signer(t, 1).Public, signer(t, 2).Public, signer(t, 3).Public
	f := &fake{own: host.OwnView{Key: k1, Next: k2, From: when, Former: k3, Turned: when, Told: 4, Revocation: []byte{1}}}
	c := serve(t, f)
	id, err := c.ID(t.Context())
	stamp := when.UTC()
	want := ID{
		Name: k1.String(), Words: k1.Fingerprint().Words(), Algorithm: "Ed25519", PublicKey: k1.PublicPEM(),
		Next:   &NextKey{Name: k2.String(), Words: k2.Fingerprint().Words(), PublicKey: k2.PublicPEM(), From: stamp, Told: 4},
		Former: k3.String(), Turned: &stamp, Revocation: "btns-revocation AQ==",
	}
	if err != nil || !reflect.DeepEqual(id, want) {
		t.Fatalf("%+v, %v", id, err)
	}
	f.own = host.OwnView{Key: k1, Turned: when}
	if id, err := c.ID(t.Context()); err != nil || id.Next != nil || id.Former != "" || id.Turned != nil || id.Revocation != "" {
		t.Fatalf("%+v, %v", id, err)
	}
	if x, err := c.Statement(t.Context()); err != nil || x.Text != trust.RevocationText([]byte("statement")) {
		t.Fatalf("%+v, %v", x, err)
	}
}

// Each command about the own key reaches the daemon, and what it could not do is an error.
func TestKeeperCommands(t *testing.T) {
	f := &fake{answers: []host.Report{{Kind: host.Operator, Level: host.Info, Text: "done"}}}
	c := serve(t, f)
	calls := map[string]func() (Done, error){
		"rotate 168h0m0s": func() (Done, error) { return c.Rotate(t.Context(), 7*24*time.Hour) },
		"take back":       func() (Done, error) { return c.TakeBack(t.Context()) },
		"revoke":          func() (Done, error) { return c.RevokeOwn(t.Context()) },
	}
	for want, call := range calls {
		f.kept = nil
		if d, err := call(); err != nil || !reflect.DeepEqual(d.Text, []string{"done"}) || !reflect.DeepEqual(f.kept, []string{want}) {
			t.Errorf("%s: %+v, %v; the daemon was asked to %q", want, d, err, f.kept)
		}
	}
	f.answers = []host.Report{{Kind: host.Operator, Level: host.Warn, Text: "planned already", Reason: host.NotDone}}
	for want, call := range calls {
		var e *Error
		if _, err := call(); !errors.As(err, &e) || e.Text != "planned already" || e.Hint == "" {
			t.Errorf("%s: %v", want, err)
		}
	}
	f.fail = errGone
	for want, call := range calls {
		if _, err := call(); err == nil || !strings.Contains(err.Error(), "stopped") {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// A statement by which a key ends itself is checked before it reaches the daemon.
func TestRevokeByStatement(t *testing.T) {
	k := signer(t, 1)
	data, err := trust.SignRevocation(nil, k)
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{answers: []host.Report{{Kind: host.Operator, Level: host.Info, Text: "revoked"}}}
	c := serve(t, f)
	if d, err := c.RevokeBy(t.Context(), trust.RevocationText(data)+"\n"); err != nil || d.Text[0] != "revoked" {
		t.Fatalf("%+v, %v", d, err)
	}
	if got, ok := f.operated.(host.RevokeSelf); !ok || got.Statement.Key() != k.Public {
		t.Fatalf("%+v", f.operated)
	}
	f.operated = nil
	data[len(data)-1] ^= 1
	var e *Error
	if _, err := c.RevokeBy(t.Context(), trust.RevocationText(data)); !errors.As(err, &e) || !e.Input || f.operated != nil {
		t.Fatalf("%v, %+v", err, f.operated)
	}
}
