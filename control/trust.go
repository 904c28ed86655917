package control

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"

	"github.com/btns-ipsec/btns/host"
	"github.com/btns-ipsec/btns/trust"
)

// Operator is what a [Daemon] does about keys on an operator's word.
type Operator interface {
	// Operate carries out host.Accept, host.Verify, host.Revoke, host.RevokeSelf, host.Compared or host.Import and returns what the host says to it; the
	// last report says whether it was done. It is on disk then.
	Operate(ctx context.Context, ev host.Event) ([]host.Report, error)
}

// maxKnown bounds a text of known peers; package trust takes no longer one.
const maxKnown = 64 << 20

func (s *Server) operator(m *http.ServeMux) {
	m.HandleFunc("POST /v1/trust/verify", s.verify)
	m.HandleFunc("POST /v1/trust/revoke", s.revoke)
	m.HandleFunc("GET /v1/trust/export", s.export)
	m.HandleFunc("POST /v1/trust/import", s.importKnown)
}

// operate answers with what the host says.
func (s *Server) operate(w http.ResponseWriter, r *http.Request, ev host.Event) {
	reports, err := s.daemon.Operate(r.Context(), ev)
	answerReports(w, reports, err)
}

func answerReports(w http.ResponseWriter, reports []host.Report, err error) {
	var done Done
	for _, r := range reports {
		if r.Level >= host.Warn && err == nil {
			err = &Error{Text: r.Text, Hint: hintOf(r)}
		}
		done.Text = append(done.Text, r.Text)
	}
	answer(w, done, err)
}

func hintOf(r host.Report) string {
	if r.Hint != "" {
		return r.Hint
	}
	return r.Reason.Meaning().Hint
}

func (s *Server) verify(w http.ResponseWriter, r *http.Request) {
	t, addr, key, err := decodeTarget(w, r)
	if err == nil && key.IsZero() {
		err = errors.New("no key given: a comparison is about a key")
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	s.operate(w, r, host.Verify{Addr: addr, Name: t.Host, Key: key})
}

func (s *Server) revoke(w http.ResponseWriter, r *http.Request) {
	t, _, key, err := decodeTarget(w, r)
	if err == nil && t.Statement != "" {
		s.revokeBy(w, r, t.Statement)
		return
	}
	if err == nil && key.IsZero() {
		err = errors.New("no key given")
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	s.operate(w, r, host.Revoke{Key: key})
}

// revokeBy takes the statement by which a key ends itself.
func (s *Server) revokeBy(w http.ResponseWriter, r *http.Request, text string) {
	statement, err := trust.ParseRevocation([]byte(text))
	if err != nil {
		answer(w, nil, &Error{Text: err.Error(), Input: true})
		return
	}
	s.operate(w, r, host.RevokeSelf{Statement: statement})
}

func (s *Server) export(w http.ResponseWriter, r *http.Request) {
	records, err := s.daemon.Records(r.Context())
	text := trust.Export(records)
	if err == nil && r.FormValue("hashed") == "true" {
		text, err = trust.ExportHashed(records, rand.Reader)
	}
	answer(w, Exported{text}, err)
}

func (s *Server) importKnown(w http.ResponseWriter, r *http.Request) {
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxKnown))
	if err != nil {
		refuse(w, http.StatusBadRequest, fmt.Errorf("request: %w", err))
		return
	}
	entries, err := trust.ParseKnown(text)
	if err != nil {
		answer(w, nil, &Error{Text: err.Error(), Input: true})
		return
	}
	s.operate(w, r, host.Import{Entries: entries})
}

// AcceptBeside records another key for an address and leaves the others there.
func (c *Client) AcceptBeside(ctx context.Context, addr netip.Addr, name string) (d Done, err error) {
	t := c.target(addr, name)
	t.Beside = true
	return d, c.post(ctx, "/v1/trust/accept", t, &d)
}

// Verify says that a key was compared: that of an address, or with an invalid addr wherever it comes from.
func (c *Client) Verify(ctx context.Context, addr netip.Addr, name string) (d Done, err error) {
	return d, c.post(ctx, "/v1/trust/verify", c.target(addr, name), &d)
}

// Revoke withdraws a key.
func (c *Client) Revoke(ctx context.Context, name string) (d Done, err error) {
	return d, c.post(ctx, "/v1/trust/revoke", target{Name: name}, &d)
}

// Export returns what is recorded as a text of known peers; hashed hides names and addresses.
func (c *Client) Export(ctx context.Context, hashed bool) (x Exported, err error) {
	return x, c.get(ctx, fmt.Sprintf("/v1/trust/export?hashed=%v", hashed), &x)
}

// Import takes in a text of known peers.
func (c *Client) Import(ctx context.Context, text []byte) (d Done, err error) {
	return d, c.call(ctx, http.MethodPost, "/v1/trust/import", text, &d)
}
