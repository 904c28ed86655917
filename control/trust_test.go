package control

import (
	"context"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/host"
	"github.com/btns-ipsec/btns/trust"
)

func (f *fake) Operate(_ context.Context, ev host.Event) ([]host.Report, error) {
	f.operated = ev
	return f.answers, f.fail
}

// Each command reaches the daemon as the event that it is.
func TestOperatorCommands(t *testing.T) {
	f := &fake{answers: []host.Report{{Kind: host.Operator, Text: "a"}, {Kind: host.Operator, Level: host.Info, Text: "b"}}}
	c := serve(t, f)
	name := key.String()
	for _, tt := range []struct {
		name string
		call func() (Done, error)
		want host.Event
	}{
		{"verify at an address", func() (Done, error) { return c.Verify(t.Context(), addr, name) }, host.Verify{Addr: addr, Key: key}},
		{"verify a key", func() (Done, error) { return c.Verify(t.Context(), netip.Addr{}, name) }, host.Verify{Key: key}},
		{"revoke", func() (Done, error) { return c.Revoke(t.Context(), name) }, host.Revoke{Key: key}},
		{"accept beside", func() (Done, error) { return c.AcceptBeside(t.Context(), addr, name) }, host.Accept{Addr: addr, Key: key, Beside: true}},
		{"accept the last beside", func() (Done, error) { return c.AcceptBeside(t.Context(), addr, "") }, host.Accept{Addr: addr, Beside: true}},
	} {
		f.operated = nil
		d, err := tt.call()
		if err != nil || !reflect.DeepEqual(d.Text, []string{"a", "b"}) || !reflect.DeepEqual(f.operated, tt.want) {
			t.Errorf("%s: %+v, %v; the daemon was given %+v", tt.name, d, err, f.operated)
		}
	}
	f.operated = nil
	if _, err := c.Verify(t.Context(), addr, ""); err == nil || f.operated != nil {
		t.Error("a comparison without a key reaches the daemon")
	}
	if _, err := c.Revoke(t.Context(), ""); err == nil || f.operated != nil {
		t.Error("no key can be revoked")
	}
}

// A host that the user named is asked about by that name, too (BTNS-TRUST-13).
func TestCommandsByName(t *testing.T) {
	f := &fake{answers: []host.Report{{Kind: host.Operator, Text: "done"}}}
	c := serve(t, f).For("host.example")
	for _, tt := range []struct {
		name string
		call func() (Done, error)
		want host.Event
	}{
		{"verify", func() (Done, error) { return c.Verify(t.Context(), addr, key.String()) }, host.Verify{Addr: addr, Name: "host.example", Key: key}},
		{"accept", func() (Done, error) { return c.Accept(t.Context(), addr, key.String()) }, host.Accept{Addr: addr, Name: "host.example", Key: key}},
		{"accept beside", func() (Done, error) { return c.AcceptBeside(t.Context(), addr, "") }, host.Accept{Addr: addr, Name: "host.example", Beside: true}},
		{"forget", func() (Done, error) { return c.Forget(t.Context(), addr, "") }, host.Forget{Addr: addr, Name: "host.example"}},
	} {
		f.operated = nil
		if d, err := tt.call(); err != nil || d.Text[0] != "done" || !reflect.DeepEqual(f.operated, tt.want) {
			t.Errorf("%s: %+v, %v; the daemon was given %+v", tt.name, d, err, f.operated)
		}
	}
	if _, err := c.Wait(t.Context(), addr, time.Second); err != nil || f.named != "host.example" {
		t.Errorf("%q, %v", f.named, err)
	}
}

// What the host could not do is an error with its text and a hint.
func TestOperatorFails(t *testing.T) {
	f := &fake{answers: []host.Report{{Kind: host.Operator, Level: host.Warn, Text: "nothing is recorded there", Reason: host.NotDone}}}
	_, err := serve(t, f).Revoke(t.Context(), key.String())
	var e *Error
	if !errors.As(err, &e) || e.Text != "nothing is recorded there" || e.Hint == "" || e.Input {
		t.Fatalf("%#v", err)
	}
}

// A text of known peers comes out as it went in; what is wrong with one is told by line and column.
func TestKnownPeers(t *testing.T) {
	f := &fake{answers: []host.Report{{Kind: host.Operator, Text: "taken in"}}}
	c := serve(t, f)
	x, err := c.Export(t.Context(), false)
	if err != nil || !strings.Contains(x.Text, addr.String()+" "+key.String()+" level=verified") {
		t.Fatalf("%q, %v", x.Text, err)
	}
	if hidden, err := c.Export(t.Context(), true); err != nil || strings.Contains(hidden.Text, addr.String()) || !strings.Contains(hidden.Text, key.String()) {
		t.Fatalf("%q, %v", hidden.Text, err)
	}
	d, err := c.Import(t.Context(), []byte(x.Text))
	got, ok := f.operated.(host.Import)
	if err != nil || d.Text[0] != "taken in" || !ok || len(got.Entries) != 1 {
		t.Fatalf("%+v, %v; the daemon was given %+v", d, err, f.operated)
	}
	if text := trust.Export([]trust.Record{got.Entries[0].Record}); text != x.Text {
		t.Fatalf("%q became %q", x.Text, text)
	}
	f.operated = nil
	_, err = c.Import(t.Context(), []byte("# fine\n192.0.2.7 SHA256:short\n"))
	var e *Error
	if !errors.As(err, &e) || !e.Input || !strings.HasPrefix(e.Text, "line 2, column 11: ") || f.operated != nil {
		t.Fatalf("%#v", err)
	}
}
