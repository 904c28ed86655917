package control

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/btns-ipsec/btns/host"
	"github.com/btns-ipsec/btns/trust"
)

// Keeper is what a [Daemon] does about the host's own key.
type Keeper interface {
	// Own returns the own keys.
	Own(ctx context.Context) (host.OwnView, error)
	// Rotate plans that another key becomes the host's own after a time, TakeBack ends such a plan, and RevokeOwn ends the
	// present key for good. Each returns what the host says to it; the last report says whether it was done. It is on disk
	// then.
	Rotate(ctx context.Context, lead time.Duration) ([]host.Report, error)
	TakeBack(ctx context.Context) ([]host.Report, error)
	RevokeOwn(ctx context.Context) ([]host.Report, error)
	// Statement is a revocation of the present key, for somebody to keep; it revokes nothing by being made.
	Statement() ([]byte, error)
}

// ID is the answer of /v1/id: our own key.
type ID struct {
	Name      string `json:"name"`
	Words     string `json:"words"`
	Algorithm string `json:"algorithm"`
	PublicKey string `json:"public_key"` // PEM of the SubjectPublicKeyInfo
	// Next is the key that takes over.
	Next *NextKey `json:"next,omitempty"`
	// Former is the name of the key before, and Turned when this one took over; missing when that is long ago.
	Former string     `json:"former,omitempty"`
	Turned *time.Time `json:"turned,omitempty"`
	// Revocation is the statement, a line of text, by which the key before was ended.
	Revocation string `json:"revocation,omitempty"`
}

// NextKey is a key that takes over.
type NextKey struct {
	Name      string    `json:"name"`
	Words     string    `json:"words"`
	PublicKey string    `json:"public_key"`
	From      time.Time `json:"from"`
	Told      int       `json:"told"` // peers with SAs that know of it
}

func idOf(v host.OwnView) ID {
	f := v.Key.Fingerprint()
	id := ID{
		Name: f.String(), Words: f.Words(), Algorithm: v.Key.Algorithm(), PublicKey: v.Key.PublicPEM(),
		Former: nameOf(v.Former.Fingerprint()),
	}
	if id.Former != "" {
		id.Turned = timeOf(v.Turned)
	}
	if n := v.Next.Fingerprint(); !n.IsZero() {
		id.Next = &NextKey{Name: n.String(), Words: n.Words(), PublicKey: v.Next.PublicPEM(), From: v.From.UTC(), Told: v.Told}
	}
	if v.Revocation != nil {
		id.Revocation = trust.RevocationText(v.Revocation)
	}
	return id
}

// plan is the body of /v1/id/rotate.
type plan struct {
	Lead   float64 `json:"lead_seconds,omitempty"`
	Cancel bool    `json:"cancel,omitempty"`
}

func (s *Server) keeper(m *http.ServeMux) {
	m.HandleFunc("GET /v1/id", func(w http.ResponseWriter, r *http.Request) {
		v, err := s.daemon.Own(r.Context())
		answer(w, idOf(v), err)
	})
	m.HandleFunc("GET /v1/id/statement", func(w http.ResponseWriter, _ *http.Request) {
		data, err := s.daemon.Statement()
		answer(w, Exported{trust.RevocationText(data)}, err)
	})
	m.HandleFunc("POST /v1/id/rotate", s.rotate)
	m.HandleFunc("POST /v1/id/revoke", func(w http.ResponseWriter, r *http.Request) {
		reports, err := s.daemon.RevokeOwn(r.Context())
		answerReports(w, reports, err)
	})
}

func (s *Server) rotate(w http.ResponseWriter, r *http.Request) {
	var p plan
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&p); err != nil {
		refuse(w, http.StatusBadRequest, fmt.Errorf("request: %w", err))
		return
	}
	if p.Cancel {
		reports, err := s.daemon.TakeBack(r.Context())
		answerReports(w, reports, err)
		return
	}
	reports, err := s.daemon.Rotate(r.Context(), time.Duration(p.Lead*float64(time.Second)))
	answerReports(w, reports, err)
}

// Rotate plans that another key becomes the daemon's own after lead.
func (c *Client) Rotate(ctx context.Context, lead time.Duration) (d Done, err error) {
	return d, c.post(ctx, "/v1/id/rotate", plan{Lead: lead.Seconds()}, &d)
}

// TakeBack ends such a plan.
func (c *Client) TakeBack(ctx context.Context) (d Done, err error) {
	return d, c.post(ctx, "/v1/id/rotate", plan{Cancel: true}, &d)
}

// RevokeOwn ends the daemon's own key for good.
func (c *Client) RevokeOwn(ctx context.Context) (d Done, err error) {
	return d, c.post(ctx, "/v1/id/revoke", struct{}{}, &d)
}

// Statement makes a revocation of the daemon's key, which revokes nothing until somebody uses it.
func (c *Client) Statement(ctx context.Context) (x Exported, err error) {
	return x, c.get(ctx, "/v1/id/statement", &x)
}

// RevokeBy hands over the statement by which a key ends itself.
func (c *Client) RevokeBy(ctx context.Context, statement string) (d Done, err error) {
	return d, c.post(ctx, "/v1/trust/revoke", target{Statement: statement}, &d)
}
