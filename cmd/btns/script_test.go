package main

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/btns-ipsec/btns/control"
	"github.com/btns-ipsec/btns/dataplane"
	"github.com/btns-ipsec/btns/host"
	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/protect"
	"github.com/btns-ipsec/btns/trust"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"btns": main})
}

// What a user sees: arguments in, text and exit code out.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "daemon": daemonCmd},
		Setup: func(env *testscript.Env) error {
			env.Setenv("SOCK", filepath.Join(env.WorkDir, "btns.sock"))
			return nil
		},
	})
}

// exits runs a program and demands its exit code: exits 3 btns peers.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits code program args...")
	}
	code := "0"
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		code = err.Error()
		const prefix = "exit status "
		if len(code) > len(prefix) && code[:len(prefix)] == prefix {
			code = code[len(prefix):]
		}
	}
	if code != args[0] {
		ts.Fatalf("exit code %s, want %s", code, args[0])
	}
}

// daemonCmd puts a daemon with canned answers on $SOCK, until the script ends; an argument is what becomes of a revocation.
func daemonCmd(ts *testscript.TestScript, _ bool, args []string) {
	l, err := control.Listen(ts.Getenv("SOCK"))
	ts.Check(err)
	s := control.NewServer(canned{&cannedKeys{ends: strings.Join(args, "")}}, "v1.2.3")
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	ts.Defer(func() {
		ts.Check(s.Close())
		ts.Check(<-done)
	})
}

// canned is a daemon with a protected peer, a refused one, and nobody else.
type canned struct{ *cannedKeys }

var (
	good, bad = netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("2001:db8::bad")
	goodKey   = identity.Fingerprint{7}
	since     = time.Date(2026, 3, 1, 9, 12, 44, 0, time.UTC)
)

func (canned) Status(context.Context) (host.StatusView, dataplane.Info, error) {
	return host.StatusView{
		Key: goodKey, Since: since, Protected: 1, Refused: 1, IKESAs: 1, Children: 1, Pins: 2,
		Drops: map[string]uint64{"no-sa": 3, "clear-refused": 0}, Problems: []string{"2001:db8::bad: its key has changed"},
		ClearBy: []host.ClearView{
			{Entry: "to the web cache", Source: "btns.toml:12", Packets: 3, Bytes: 4096}, {Entry: "everything else", Packets: 12, Bytes: 1200345},
		},
	}, dataplane.Info{Name: "tun", Device: "btns0", MTU: 1432}, nil
}

func (canned) Peers(context.Context) ([]host.PeerView, error) {
	return []host.PeerView{
		{
			Addr: good, State: host.StateProtected, Key: goodKey, ID: identity.Null(), Method: "signature", Assurance: identity.Continuity,
			Since: since, FirstSeen: since, IKE: "X25519", Btns: true, NAT: "peer",
			Children: []host.ChildView{{
				SPIIn: 0xc0ffee01, SPIOut: 0x0badcafe, Suite: protect.Suite{Encr: protect.AESGCM16, KeyBits: 128, ESN: true}, Mode: protect.Transport,
				Local: "192.0.2.1/32", Remote: "192.0.2.7/32", Encap: true, Since: since, Sending: true,
				Counters: dataplane.Counters{PacketsIn: 12, PacketsOut: 34, BytesIn: 1200345, BytesOut: 340112},
			}},
		},
		{Addr: bad, State: host.StateRefused, Since: since, Why: "its key has changed", Hint: "compare it"},
	}, nil
}

func (canned) Records(context.Context) ([]trust.Record, error) {
	return []trust.Record{{Addr: good, Key: goodKey, Assurance: identity.Continuity, FirstSeen: since, LastSeen: since, Sticky: true}}, nil
}

func (canned) Explain(_ context.Context, a netip.Addr, port uint16) (host.Explanation, error) {
	x := host.Explanation{Addr: a, Port: port, Entry: "everything else", State: host.StateProtected, Steps: []host.Step{{Name: "state", Text: "all is well"}}}
	if a != good {
		x.State, x.Steps, x.Hint = host.StateClear, []host.Step{{Name: "probe", Text: "no packet was seen"}}, "send it something"
		x.Reason = host.NoAnswer
	}
	return x, nil
}

func (canned) Down(_ context.Context, a netip.Addr) (int, error) {
	if a == good {
		return 1, nil
	}
	return 0, nil
}

func (canned) Forget(_ context.Context, a netip.Addr, key identity.Fingerprint) (int, error) {
	if a == good || key == goodKey {
		return 1, nil
	}
	return 0, nil
}

func (canned) Accept(_ context.Context, a netip.Addr, key identity.Fingerprint) (identity.Fingerprint, error) {
	if a == bad && key.IsZero() {
		return goodKey, nil
	}
	return key, nil
}

func (canned) Operate(_ context.Context, ev host.Event) ([]host.Report, error) {
	done := func(text string) ([]host.Report, error) {
		return []host.Report{{Kind: host.Operator, Level: host.Info, Text: text}}, nil
	}
	switch ev := ev.(type) {
	case host.Verify:
		if ev.Key == goodKey {
			return done("verified: " + ev.Key.String())
		}
	case host.Revoke:
		return done("revoked: " + ev.Key.String())
	case host.Compared:
		if ev.Words == "ARMY OAK" {
			return done(fmt.Sprintf("compared: %v", ev.Same))
		}
	case host.RevokeSelf:
		return done("revoked by itself: " + ev.Statement.Key().String())
	case host.Import:
		return done(fmt.Sprintf("taken in: %d", len(ev.Entries)))
	case host.Accept:
		return done("accepted beside")
	}
	return []host.Report{{Kind: host.Operator, Level: host.Warn, Text: "nothing is recorded there", Reason: host.NotDone}}, nil
}

func (canned) Compare(ctx context.Context, a netip.Addr) (host.CompareView, []host.Report, error) {
	switch a {
	case good:
		return host.CompareView{
			Addr: a, State: host.CompareReady, Key: goodKey, Assurance: identity.FirstUse, String: identity.ShortString{Words: "ARMY OAK", Digits: "437290"},
		}, nil, nil
	case bad:
		return host.CompareView{}, []host.Report{{Kind: host.Operator, Level: host.Warn, Text: "there is no IKE SA with it"}}, nil
	}
	<-ctx.Done()
	return host.CompareView{}, nil, ctx.Err()
}

func (canned) Wait(_ context.Context, a netip.Addr, _ string) (host.PeerView, error) {
	v := host.PeerView{Addr: a, State: host.StateProtected, Key: goodKey, Assurance: identity.FirstUse}
	switch a {
	case good:
	case bad:
		v = host.PeerView{Addr: a, State: host.StateRefused, Why: "its key has changed", Hint: "compare it"}
	default:
		v = host.PeerView{Addr: a, State: host.StateClear, Why: "no answer to 3 IKE datagrams"}
	}
	return v, nil
}

func (canned) Watch(_ context.Context, each func(host.Report, uint64) error) error {
	for i, r := range []host.Report{
		{Time: since, Kind: host.Protected, Level: host.Info, Remote: good, Key: goodKey, Text: "traffic is protected"},
		{Time: since, Kind: host.IKENotice, Level: host.Debug, Text: "a detail"},
		{Time: since, Kind: host.KeyChanged, Level: host.Alarm, Remote: bad, Text: "THE KEY HAS CHANGED", Hint: "compare it", Reason: "key-changed"},
	} {
		if err := each(r, uint64(i)); err != nil {
			return err
		}
	}
	return nil
}
