package control

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/btns-ipsec/btns/host"
	"github.com/btns-ipsec/btns/policy"
	"github.com/btns-ipsec/btns/selector"
)

// Configurer is what a [Daemon] does about its configuration.
type Configurer interface {
	// Reload reads the file anew and puts it in force, whole or not at all.
	Reload(ctx context.Context) (Applied, error)
	// Apply does the same with a document, which is kept until the next Reload; with revert > 0 only until then, unless
	// Confirm comes first.
	Apply(ctx context.Context, d Document, revert time.Duration) (Applied, error)
	// Confirm keeps what Apply would take back.
	Confirm(ctx context.Context) (Applied, error)
	// TestPolicy says what the policy in force makes of a packet.
	TestPolicy(ctx context.Context, f selector.Flow) (host.PolicyTest, error)
}

// Document is a configuration and the files that it names, as a client has read them: the daemon may not be able to.
type Document struct {
	Name  string            `json:"name"` // for messages
	Text  []byte            `json:"text"`
	Files map[string][]byte `json:"files,omitempty"`
}

// Applied is the answer to what changes the configuration.
type Applied struct {
	Text     []string   `json:"text"`
	Warnings []string   `json:"warnings,omitempty"`
	Reverts  *time.Time `json:"reverts_at,omitempty"` // unless it is confirmed
}

// PolicyTest is the answer of /v1/policy/test.
type PolicyTest struct {
	Local        string   `json:"local"`
	Remote       string   `json:"remote"`
	Proto        uint8    `json:"proto,omitempty"`
	LocalPort    uint16   `json:"local_port,omitempty"`
	RemotePort   uint16   `json:"remote_port,omitempty"`
	Entry        string   `json:"entry"`
	Source       string   `json:"source,omitempty"`
	Action       string   `json:"action"`
	Fallback     string   `json:"fallback,omitempty"`
	Waiting      string   `json:"waiting,omitempty"`
	MinAssurance string   `json:"min_assurance,omitempty"`
	Peers        []string `json:"peers,omitempty"` // entries of the PAD
	Verdict      string   `json:"verdict"`
	Inbound      string   `json:"inbound_clear"` // a clear packet the other way
	Notes        []string `json:"notes,omitempty"`
}

// NewPolicyTest is the JSON form of a test.
func NewPolicyTest(t host.PolicyTest) PolicyTest {
	p := PolicyTest{
		Local: addrOf(t.Flow.Local), Remote: addrOf(t.Flow.Remote), Proto: t.Flow.Proto,
		LocalPort: t.Flow.LocalPort, RemotePort: t.Flow.RemotePort,
		Entry: t.Entry, Source: t.Source, Action: t.Action.String(), Verdict: t.Verdict, Inbound: t.Inbound, Notes: t.Notes,
	}
	if t.Action == policy.Protect {
		p.Fallback, p.Waiting, p.Peers = t.Fallback.String(), t.Waiting.String(), t.Peers
		if t.MinAssurance != 0 {
			p.MinAssurance = t.MinAssurance.String()
		}
	}
	return p
}

// maxDocument bounds a document with its files.
const maxDocument = 16 << 20

// application is the body of /v1/policy/apply.
type application struct {
	Document
	Revert float64 `json:"revert_after_seconds,omitempty"`
}

func (s *Server) configurer(m *http.ServeMux) {
	m.HandleFunc("POST /v1/reload", func(w http.ResponseWriter, r *http.Request) {
		a, err := s.daemon.Reload(r.Context())
		answer(w, a, err)
	})
	m.HandleFunc("POST /v1/policy/apply", s.apply)
	m.HandleFunc("POST /v1/policy/confirm", func(w http.ResponseWriter, r *http.Request) {
		a, err := s.daemon.Confirm(r.Context())
		answer(w, a, err)
	})
	m.HandleFunc("GET /v1/policy/test", s.testPolicy)
}

func (s *Server) apply(w http.ResponseWriter, r *http.Request) {
	var a application
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxDocument)).Decode(&a)
	revert := time.Duration(a.Revert * float64(time.Second))
	if err == nil && (revert < 0 || revert > maxWait) {
		err = fmt.Errorf("%v is not a time from 0s to %v", revert, maxWait)
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, fmt.Errorf("request: %w", err))
		return
	}
	got, err := s.daemon.Apply(r.Context(), a.Document, revert)
	answer(w, got, err)
}

func (s *Server) testPolicy(w http.ResponseWriter, r *http.Request) {
	f, err := flowOf(r.FormValue)
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	t, err := s.daemon.TestPolicy(r.Context(), f)
	answer(w, NewPolicyTest(t), err)
}

func flowOf(value func(string) string) (f selector.Flow, err error) {
	if f.Local, err = parseAddr(value("local")); err != nil {
		return f, err
	}
	if f.Remote, err = parseAddr(value("remote")); err != nil {
		return f, err
	}
	number := func(name string, bits int) (n uint64) {
		if text := value(name); text != "" && err == nil {
			if n, err = strconv.ParseUint(text, 10, bits); err != nil {
				err = fmt.Errorf("%s: %q is not a number of %d bits", name, text, bits)
			}
		}
		return n
	}
	f.Proto, f.LocalPort, f.RemotePort = uint8(number("proto", 8)), uint16(number("local_port", 16)), uint16(number("remote_port", 16))
	return f, err
}

// Reload has the daemon read its file anew.
func (c *Client) Reload(ctx context.Context) (a Applied, err error) {
	return a, c.post(ctx, "/v1/reload", struct{}{}, &a)
}

// Apply puts a document in force; with revert > 0 only for so long, unless Confirm comes first.
func (c *Client) Apply(ctx context.Context, d Document, revert time.Duration) (a Applied, err error) {
	return a, c.post(ctx, "/v1/policy/apply", application{d, revert.Seconds()}, &a)
}

// Confirm keeps what Apply would take back.
func (c *Client) Confirm(ctx context.Context) (a Applied, err error) {
	return a, c.post(ctx, "/v1/policy/confirm", struct{}{}, &a)
}

// TestPolicy asks what the policy in force makes of a packet.
func (c *Client) TestPolicy(ctx context.Context, f selector.Flow) (t PolicyTest, err error) {
	q := url.Values{"local": {f.Local.String()}, "remote": {f.Remote.String()}}
	for name, n := range map[string]uint16{"proto": uint16(f.Proto), "local_port": f.LocalPort, "remote_port": f.RemotePort} {
		if n != 0 {
			q.Set(name, strconv.Itoa(int(n)))
		}
	}
	return t, c.get(ctx, "/v1/policy/test?"+q.Encode(), &t)
}
