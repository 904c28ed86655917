package control

import (
	"context"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/btns-ipsec/btns/host"
	"github.com/btns-ipsec/btns/identity"
)

func (f *fake) Compare(context.Context, netip.Addr) (host.CompareView, []host.Report, error) {
	return f.compared, f.answers, f.fail
}

// What two people compare reaches the client, and what they say the daemon.
func TestCompareCommands(t *testing.T) {
	f := &fake{answers: []host.Report{{Kind: host.Operator, Level: host.Info, Text: "verified"}}}
	f.compared = host.CompareView{
		Addr: addr, State: host.CompareReady, Key: key, Assurance: identity.FirstUse, String: identity.ShortString{Words: "ARMY OAK", Digits: "437290"},
	}
	c := serve(t, f)
	x, err := c.Compare(t.Context(), addr)
	want := Comparison{Addr: addr.String(), Name: key.String(), Words: key.Words(), Assurance: "first-use", ShortWords: "ARMY OAK", ShortDigits: "437290"}
	if err != nil || x != want {
		t.Fatalf("%+v, %v", x, err)
	}
	for _, same := range []bool{true, false} {
		d, err := c.Compared(t.Context(), addr, "ARMY OAK", same)
		if err != nil || d.Text[0] != "verified" || !reflect.DeepEqual(f.operated, host.Compared{Addr: addr, Words: "ARMY OAK", Same: same}) {
			t.Fatalf("%+v, %v, %+v", d, err, f.operated)
		}
	}
}

func TestCompareFails(t *testing.T) {
	f := &fake{answers: []host.Report{{Kind: host.Operator, Level: host.Warn, Text: "there is no IKE SA with it"}}}
	c := serve(t, f)
	var e *Error
	if _, err := c.Compare(t.Context(), addr); !errors.As(err, &e) || !strings.Contains(e.Text, "no IKE SA") || e.Hint == "" {
		t.Fatalf("%v", err)
	}
	f.compared = host.CompareView{Addr: addr, State: host.CompareFailed, Reason: host.CompareTwice, Why: "twice"}
	if _, err := c.Compare(t.Context(), addr); !errors.As(err, &e) || e.Text != "twice" || e.Hint == "" {
		t.Fatalf("%v", err)
	}
	if _, err := c.Compare(t.Context(), netip.Addr{}); err == nil {
		t.Error("with nobody")
	}
	f.fail = errGone
	if _, err := c.Compare(t.Context(), addr); err == nil {
		t.Error("a daemon that has gone")
	}
}
