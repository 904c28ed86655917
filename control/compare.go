package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"

	"github.com/btns-ipsec/btns/host"
)

// Comparer is what a [Daemon] does when two people compare the short string of a session.
type Comparer interface {
	// Compare returns when there is a string to compare, or why there will be none; or the reports say why it was not begun.
	Compare(ctx context.Context, addr netip.Addr) (host.CompareView, []host.Report, error)
}

// Comparison is the answer of /v1/trust/compare: what two people compare.
type Comparison struct {
	Addr        string `json:"addr"`
	Name        string `json:"name"` // of the peer's key
	Words       string `json:"words"`
	Assurance   string `json:"assurance,omitempty"` // so far
	ShortWords  string `json:"short_words"`
	ShortDigits string `json:"short_digits"`
}

// found is the body of /v1/trust/compared.
type found struct {
	Addr       string `json:"addr"`
	ShortWords string `json:"short_words"`
	Same       bool   `json:"same"`
}

func (s *Server) comparer(m *http.ServeMux) {
	m.HandleFunc("POST /v1/trust/compare", s.compare)
	m.HandleFunc("POST /v1/trust/compared", s.compared)
}

func (s *Server) compare(w http.ResponseWriter, r *http.Request) {
	addr, _, err := readTarget(w, r)
	if err == nil && !addr.IsValid() {
		err = errors.New("no address given")
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	v, reports, err := s.daemon.Compare(r.Context(), addr)
	switch {
	case err == nil && v.State == host.CompareNone:
		err = &Error{
			Text: fmt.Sprintf("nothing can be compared with %v%s", addr, lastOf(reports)),
			Hint: fmt.Sprintf("see whether it is protected, and runs btns: btns wait %v; btns peers --long", addr),
		}
	case err == nil && v.State == host.CompareFailed:
		err = &Error{Text: v.Why, Hint: v.Reason.Meaning().Hint}
	}
	answer(w, Comparison{
		Addr: addrOf(addr), Name: nameOf(v.Key), Words: v.Key.Words(), Assurance: v.Assurance.String(),
		ShortWords: v.String.Words, ShortDigits: v.String.Digits,
	}, err)
}

func lastOf(reports []host.Report) string {
	if len(reports) == 0 {
		return ""
	}
	return ": " + reports[len(reports)-1].Text
}

func (s *Server) compared(w http.ResponseWriter, r *http.Request) {
	var f found
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&f); err != nil {
		refuse(w, http.StatusBadRequest, fmt.Errorf("request: %w", err))
		return
	}
	addr, err := parseAddr(f.Addr)
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	s.operate(w, r, host.Compared{Addr: addr, Words: f.ShortWords, Same: f.Same})
}

// Compare begins a comparison, and returns when there is a string to compare.
func (c *Client) Compare(ctx context.Context, addr netip.Addr) (x Comparison, err error) {
	return x, c.post(ctx, "/v1/trust/compare", c.target(addr, ""), &x)
}

// Compared says what two people found: words are those that were shown.
func (c *Client) Compared(ctx context.Context, addr netip.Addr, words string, same bool) (d Done, err error) {
	return d, c.post(ctx, "/v1/trust/compared", found{addr.String(), words, same}, &d)
}
