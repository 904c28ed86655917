package control

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/dataplane"
	"github.com/btns-ipsec/btns/host"
	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/protect"
	"github.com/btns-ipsec/btns/trust"
)

var (
	addr    = netip.MustParseAddr("192.0.2.7")
	key     = identity.Fingerprint{7}
	when    = time.Date(2026, 3, 1, 9, 12, 44, 0, time.FixedZone("CET", 3600))
	errGone = errors.New("engine: stopped")
)

// fake is a daemon with one peer.
type fake struct {
	fail     error
	found    int                  // what Down and Forget find
	refused  identity.Fingerprint // what Accept takes without a key
	waited   time.Duration        // what Wait was given
	named    string               // likewise
	reports  []host.Report
	applied  applied
	operated host.Event // what Operate was given
	answers  []host.Report
	own      host.OwnView
	compared host.CompareView
	kept     []string // what was done about the own key
}

func (f *fake) Status(context.Context) (host.StatusView, dataplane.Info, error) {
	return host.StatusView{Key: key, Since: when, Protected: 1, Drops: map[string]uint64{"no-sa": 3}, Problems: []string{"b"}, ClearBy: []host.ClearView{{Entry: "web", Source: "a.toml:3", Packets: 1, Bytes: 60}}},
		dataplane.Info{Name: "tun", Device: "btns0", MTU: 1400, Problems: []string{"a"}}, f.fail
}

func (f *fake) Peers(context.Context) ([]host.PeerView, error) {
	return []host.PeerView{{
		Addr: addr, State: host.StateProtected, Key: key, Assurance: identity.Continuity, Since: when, ID: identity.Null(), Method: "signature",
		Children: []host.ChildView{
			{SPIIn: 0xc0ffee01, SPIOut: 1, Mode: protect.Transport, Counters: dataplane.Counters{BytesIn: 1, BytesOut: 2, PacketsIn: 3}},
			{Counters: dataplane.Counters{BytesIn: 10, BytesOut: 20}},
		},
	}, {Addr: addr.Next(), State: host.StateClear, Assurance: identity.FirstUse}}, f.fail
}

func (f *fake) Records(context.Context) ([]trust.Record, error) {
	return []trust.Record{{Addr: addr, Key: key, Assurance: identity.Verified, FirstSeen: when, Sticky: true}}, f.fail
}

func (f *fake) Explain(_ context.Context, a netip.Addr, port uint16) (host.Explanation, error) {
	return host.Explanation{Addr: a, Port: port, Entry: "everything else", State: host.StateClear, Steps: []host.Step{{Name: "policy", Text: "one"}, {Name: "probe", Text: "two"}}, Reason: host.NoAnswer, Source: "btns.toml:3", Why: "nobody", Hint: "do"}, f.fail
}

func (f *fake) Down(context.Context, netip.Addr) (int, error) { return f.found, f.fail }

func (f *fake) Forget(context.Context, netip.Addr, identity.Fingerprint) (int, error) {
	return f.found, f.fail
}

func (f *fake) Accept(_ context.Context, _ netip.Addr, k identity.Fingerprint) (identity.Fingerprint, error) {
	if k.IsZero() {
		k = f.refused
	}
	return k, f.fail
}

func (f *fake) Wait(ctx context.Context, a netip.Addr, name string) (host.PeerView, error) {
	f.named = name
	if end, ok := ctx.Deadline(); ok {
		f.waited = time.Until(end)
	}
	return host.PeerView{Addr: a, State: host.StateRefused, Why: "because", Hint: "do"}, f.fail
}

func (f *fake) Watch(ctx context.Context, each func(host.Report, uint64) error) error {
	for i, r := range f.reports {
		if err := each(r, uint64(i)); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return ctx.Err()
}

func serve(t *testing.T, d Daemon) *Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "run", "btns.sock")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(d, "v1")
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		if err := errors.Join(s.Close(), <-done); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(path); err == nil {
			t.Error("the socket is left behind")
		}
	})
	return NewClient(path)
}

func TestQuestions(t *testing.T) {
	f := &fake{}
	c, ctx := serve(t, f), t.Context()
	if v, err := c.Version(ctx); err != nil || v != (Version{"v1", API}) {
		t.Errorf("version: %v, %v", v, err)
	}
	if _, err := c.ID(ctx); err != nil {
		t.Errorf("id: %v", err)
	}
	if s, err := c.Status(ctx); err != nil || s.Working || !reflect.DeepEqual(s.Problems, []string{"a", "b"}) || s.Drops["no-sa"] != 3 || s.Plane != "tun" || !slices.Equal(s.ClearBy, []Cleared{{"web", "a.toml:3", 1, 60}}) {
		t.Errorf("status: %+v, %v", s, err)
	}
	ps, err := c.Peers(ctx)
	if err != nil || len(ps) != 2 || ps[0].InBytes != 11 || ps[0].OutBytes != 22 || ps[0].SAs != 2 || ps[0].Children[0].SPIIn != "c0ffee01" {
		t.Errorf("peers: %+v, %v", ps, err)
	}
	if ps[1].Assurance != "" {
		t.Error("an assurance without protection")
	}
	if pins, err := c.Pins(ctx); err != nil || len(pins) != 1 || !pins[0].Sticky || pins[0].Assurance != "verified" || pins[0].LastSeen != nil {
		t.Errorf("pins: %+v, %v", pins, err)
	}
	if x, err := c.Explain(ctx, addr, 443); err != nil || x.Addr != "192.0.2.7" || x.Port != 443 || x.Hint != "do" || x.Reason != "no-answer" ||
		x.Source != "btns.toml:3" || x.Why != "nobody" || !reflect.DeepEqual(x.Steps, []Step{{"policy", "one"}, {"probe", "two"}}) || !reflect.DeepEqual(x.Story, []string{"one", "two"}) {
		t.Errorf("explain: %+v, %v", x, err)
	}
	if w, err := c.Wait(ctx, addr, time.Minute); err != nil || w.Protected || w.State != "refused" || w.Why != "because" || f.waited < 50*time.Second {
		t.Errorf("wait: %+v, %v, for %v", w, err, f.waited)
	}
}

// The names of the fields are a contract, and so are UTC and what is left out.
func TestPeerJSON(t *testing.T) {
	v, _ := (&fake{}).Peers(t.Context())
	v[0].Children = v[0].Children[:1]
	b, err := json.Marshal(peerOf(v[0]))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"addr":"192.0.2.7","state":"protected","assurance":"continuity","sas":1,"in_bytes":1,"out_bytes":2,` +
		`"since":"2026-03-01T08:12:44Z","name":"` + key.String() + `","words":"` + key.Words() + `","id":"null","method":"signature",` +
		`"children":[{"spi_in":"c0ffee01","spi_out":"00000001","suite":"` + (protect.Suite{}).String() + `","mode":"transport","local":"","remote":"",` +
		`"udp_encap":false,"sending":false,"in_packets":3,"out_packets":0,"in_bytes":1,"out_bytes":2,"in_drops":0}]}`
	if string(b) != want {
		t.Errorf("got  %s\nwant %s", b, want)
	}
}

func TestCommands(t *testing.T) {
	f := &fake{}
	c, ctx := serve(t, f), t.Context()
	failed := func(err error, part string) {
		t.Helper()
		var e *Error
		if !errors.As(err, &e) || e.Hint == "" || !strings.Contains(e.Text, part) {
			t.Errorf("got %#v, want an error with %q and a hint", err, part)
		}
	}
	_, err := c.Down(ctx, addr)
	failed(err, "no SAs with 192.0.2.7")
	_, err = c.Forget(ctx, addr, "")
	failed(err, "nothing is recorded of 192.0.2.7")
	_, err = c.Accept(ctx, addr, "")
	failed(err, "no key of 192.0.2.7 has been refused")
	f.found, f.refused = 1, key
	for _, do := range []func() (Done, error){
		func() (Done, error) { return c.Down(ctx, addr) },
		func() (Done, error) { return c.Forget(ctx, netip.Addr{}, key.String()) },
		func() (Done, error) { return c.Accept(ctx, addr, "") },
		func() (Done, error) { return c.Accept(ctx, addr, key.String()) },
	} {
		if d, err := do(); err != nil || len(d.Text) != 1 {
			t.Errorf("%v, %v", d, err)
		}
	}
	if _, err := c.Accept(ctx, addr, "SHA256:short"); err == nil || !strings.Contains(err.Error(), "SHA256:short") {
		t.Errorf("a bad name: %v", err)
	}
	f.fail = errGone
	if _, err := c.Peers(ctx); err == nil || !strings.Contains(err.Error(), "stopped") {
		t.Errorf("a daemon that stops: %v", err)
	}
}

func TestWatch(t *testing.T) {
	c := serve(t, &fake{reports: []host.Report{
		{Time: when, Kind: host.KeyChanged, Level: host.Alarm, Remote: addr, Key: key, Text: "x", Hint: "y", Reason: "z"},
		{Time: when, Kind: host.IKENotice},
	}})
	var got []Event
	enough := errors.New("enough")
	err := c.Watch(t.Context(), func(e Event) error {
		if got = append(got, e); len(got) == 2 {
			return enough
		}
		return nil
	})
	want := Event{Time: when.UTC(), Kind: "key-changed", Level: "alarm", Addr: "192.0.2.7", Name: key.String(), Text: "x", Hint: "y", Reason: "z"}
	if !errors.Is(err, enough) || len(got) != 2 || got[0] != want || got[1].Suppressed != 1 || got[1].Level != "debug" {
		t.Fatalf("%v, %+v", err, got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := c.Watch(ctx, func(Event) error { cancel(); return nil }); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

// What a foreign client may send is refused in words, and with the right status.
func TestBadRequests(t *testing.T) {
	c := serve(t, &fake{found: 1})
	for _, tt := range []struct {
		method, path, body string
		status             int
		part               string
	}{
		{"GET", "/v1/explain?addr=nowhere", "", 400, `"nowhere" is not an address`},
		{"GET", "/v1/explain?addr=192.0.2.7&port=70000", "", 400, `"70000" is not a port`},
		{"GET", "/v1/wait?addr=192.0.2.7&timeout=-1s", "", 400, `"-1s" is not a time`},
		{"GET", "/v1/wait", "", 400, "not an address"},
		{"GET", "/v2/peers", "", 404, "does not know GET /v2/peers"},
		{"GET", "/v1/down", "", 404, "does not know"},
		{"POST", "/v1/down", "", 400, "request"},
		{"POST", "/v1/down", "{}", 400, "no address given"},
		{"POST", "/v1/trust/forget", "{}", 400, "neither an address nor a key"},
		{"POST", "/v1/trust/accept", `{"name":"x"}`, 400, `"x" is not the name of a key`},
		{"POST", "/v1/trust/accept", "{" + strings.Repeat(" ", maxBody), 400, "too large"},
	} {
		req, err := http.NewRequestWithContext(t.Context(), tt.method, "http://btns"+tt.path, strings.NewReader(tt.body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.http.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != tt.status || !strings.Contains(strings.ReplaceAll(string(text), `\"`, `"`), tt.part) {
			t.Errorf("%s %s: %d %s", tt.method, tt.path, resp.StatusCode, text)
		}
	}
}

func TestNoDaemon(t *testing.T) {
	path := filepath.Join(t.TempDir(), "btns.sock")
	dead, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", path+"2")
	if err != nil {
		t.Fatal(err)
	}
	dead.(*net.UnixListener).SetUnlinkOnClose(false)
	dead.Close()
	for _, p := range []string{path, path + "2"} {
		_, err := NewClient(p).Peers(t.Context())
		var none *NoDaemonError
		if !errors.As(err, &none) || none.Path != p {
			t.Errorf("%s: %v", p, err)
		}
	}
}

// The socket is its owner's alone; one left by a killed daemon is replaced, one that answers is not, nor is a file.
func TestListen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	path := filepath.Join(dir, "btns.sock")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]os.FileMode{dir: 0o700, path: 0o600} {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s has mode %v, %v", name, info.Mode(), err)
		}
	}
	var used *InUseError
	if _, err := Listen(path); !errors.As(err, &used) {
		t.Errorf("while it is in use: %v", err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	again, err := Listen(path)
	if err != nil {
		t.Fatalf("after a crash: %v", err)
	}
	again.Close()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path); err == nil || !strings.Contains(err.Error(), "not a socket") {
		t.Errorf("with a file in the way: %v", err)
	}
}
