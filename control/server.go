package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"github.com/btns-ipsec/btns/host"
	"github.com/btns-ipsec/btns/identity"
)

// API is the version of the paths and types.
const API = 1

const (
	defaultWait = 30 * time.Second
	maxWait     = time.Hour
	maxBody     = 1 << 16
)

// Server answers for a daemon.
type Server struct {
	daemon  Daemon
	version string
	http    http.Server
	cancel  context.CancelFunc
}

// NewServer makes a server that has not begun. Version is that of the program.
func NewServer(d Daemon, version string) *Server {
	s := &Server{daemon: d, version: version}
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	s.http = http.Server{
		Handler:           s.routes(),
		ReadHeaderTimeout: 10 * time.Second,
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	return s
}

// Serve answers on l until Close, and then returns nil.
func (s *Server) Serve(l net.Listener) error {
	if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("control: %w", err)
	}
	return nil
}

// Close ends all requests, waits for them for a second, and removes the socket.
func (s *Server) Close() error {
	s.cancel()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if s.http.Shutdown(ctx) != nil {
		return s.http.Close()
	}
	return nil
}

func (s *Server) routes() http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("GET /v1/version", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, Version{s.version, API}, nil)
	})
	m.HandleFunc("GET /v1/status", s.status)
	m.HandleFunc("GET /v1/peers", s.peers)
	m.HandleFunc("GET /v1/explain", s.explain)
	m.HandleFunc("GET /v1/wait", s.wait)
	m.HandleFunc("GET /v1/watch", s.watch)
	m.HandleFunc("POST /v1/down", s.down)
	m.HandleFunc("GET /v1/trust", s.pins)
	m.HandleFunc("POST /v1/trust/forget", s.forget)
	m.HandleFunc("POST /v1/trust/accept", s.accept)
	s.configurer(m)
	s.operator(m)
	s.keeper(m)
	s.comparer(m)
	m.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		refuse(w, http.StatusNotFound, &Error{Text: "the daemon does not know " + r.Method + " " + r.URL.Path, Hint: "are btns and the daemon of the same version? see: btns version"})
	})
	return m
}

func (s *Server) status(w http.ResponseWriter, r *http.Request) {
	v, plane, err := s.daemon.Status(r.Context())
	answer(w, statusOf(s.version, v, plane), err)
}

func (s *Server) peers(w http.ResponseWriter, r *http.Request) {
	views, err := s.daemon.Peers(r.Context())
	peers := make([]Peer, len(views))
	for i, v := range views {
		peers[i] = peerOf(v)
	}
	answer(w, peers, err)
}

func (s *Server) pins(w http.ResponseWriter, r *http.Request) {
	records, err := s.daemon.Records(r.Context())
	pins := make([]Pin, len(records))
	for i, rec := range records {
		pins[i] = pinOf(rec)
	}
	answer(w, pins, err)
}

func (s *Server) explain(w http.ResponseWriter, r *http.Request) {
	addr, err := parseAddr(r.FormValue("addr"))
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	var port uint64
	if text := r.FormValue("port"); text != "" {
		if port, err = strconv.ParseUint(text, 10, 16); err != nil {
			refuse(w, http.StatusBadRequest, fmt.Errorf("%q is not a port", text))
			return
		}
	}
	x, err := s.daemon.Explain(r.Context(), addr, uint16(port))
	answer(w, explanationOf(x), err)
}

func (s *Server) wait(w http.ResponseWriter, r *http.Request) {
	addr, err := parseAddr(r.FormValue("addr"))
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	timeout := defaultWait
	if text := r.FormValue("timeout"); text != "" {
		if timeout, err = time.ParseDuration(text); err != nil || timeout < 0 || timeout > maxWait {
			refuse(w, http.StatusBadRequest, fmt.Errorf("%q is not a time from 0s to %v", text, maxWait))
			return
		}
	}
	ctx, cancel := context.WithTimeout(r.Context(), timeout)
	defer cancel()
	v, err := s.daemon.Wait(ctx, addr, r.FormValue("host"))
	answer(w, waitedOf(addr, v), err)
}

func (s *Server) down(w http.ResponseWriter, r *http.Request) {
	addr, _, err := readTarget(w, r)
	if err == nil && !addr.IsValid() {
		err = errors.New("no address given")
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	n, err := s.daemon.Down(r.Context(), addr)
	if err == nil && n == 0 {
		err = &Error{Text: fmt.Sprintf("there are no SAs with %v", addr), Hint: "see who there is with: btns peers"}
	}
	answer(w, Done{[]string{fmt.Sprintf("deleted %s with %v", plural(n, "pair of SAs", "pairs of SAs"), addr)}}, err)
}

func (s *Server) forget(w http.ResponseWriter, r *http.Request) {
	t, addr, key, err := decodeTarget(w, r)
	if err == nil && !addr.IsValid() && key.IsZero() {
		err = errors.New("neither an address nor a key given")
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	what := key.String()
	if addr.IsValid() {
		what = addr.String()
	}
	if t.Host != "" && addr.IsValid() {
		s.operate(w, r, host.Forget{Addr: addr, Name: t.Host})
		return
	}
	n, err := s.daemon.Forget(r.Context(), addr, key)
	if err == nil && n == 0 {
		err = &Error{Text: "nothing is recorded of " + what, Hint: "see what is with: btns trust list"}
	}
	answer(w, Done{[]string{fmt.Sprintf("forgot %s of %s", plural(n, "record", "records"), what)}}, err)
}

func (s *Server) accept(w http.ResponseWriter, r *http.Request) {
	t, addr, key, err := decodeTarget(w, r)
	if err == nil && !addr.IsValid() {
		err = errors.New("no address given")
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	if t.Beside || t.Host != "" {
		s.operate(w, r, host.Accept{Addr: addr, Name: t.Host, Key: key, Beside: t.Beside})
		return
	}
	got, err := s.daemon.Accept(r.Context(), addr, key)
	if err == nil && got.IsZero() {
		err = &Error{
			Text: fmt.Sprintf("no key of %v has been refused, so there is none to accept", addr),
			Hint: fmt.Sprintf("name the key that you have compared: btns trust accept %v SHA256:...", addr),
		}
	}
	answer(w, Done{[]string{fmt.Sprintf("recorded for %v: %v", addr, got)}}, err)
}

// readTarget reads whom a command is about; what is missing is invalid or zero.
func readTarget(w http.ResponseWriter, r *http.Request) (addr netip.Addr, key identity.Fingerprint, err error) {
	_, addr, key, err = decodeTarget(w, r)
	return addr, key, err
}

func decodeTarget(w http.ResponseWriter, r *http.Request) (t target, addr netip.Addr, key identity.Fingerprint, err error) {
	if err = json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&t); err != nil {
		return t, addr, key, fmt.Errorf("request: %w", err)
	}
	_, _ = io.Copy(io.Discard, r.Body)
	if t.Addr != "" {
		if addr, err = parseAddr(t.Addr); err != nil {
			return t, addr, key, err
		}
	}
	if t.Name != "" {
		if key, err = identity.ParseFingerprint(t.Name); err != nil {
			return t, addr, key, fmt.Errorf("%q is not the name of a key (SHA256:...)", t.Name)
		}
	}
	return t, addr, key, nil
}

func parseAddr(text string) (netip.Addr, error) {
	a, err := netip.ParseAddr(text)
	if err != nil {
		return a, fmt.Errorf("%q is not an address", text)
	}
	return a.Unmap().WithZone(""), nil
}

func answer(w http.ResponseWriter, v any, err error) {
	var e *Error
	switch {
	case errors.As(err, &e) && e.Input:
		refuse(w, http.StatusUnprocessableEntity, e)
		return
	case errors.As(err, &e):
		refuse(w, http.StatusConflict, e)
		return
	case err != nil:
		refuse(w, http.StatusServiceUnavailable, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the client has gone: nobody is left to tell
}

func refuse(w http.ResponseWriter, code int, err error) {
	f := failure{Text: err.Error()}
	var e *Error
	if errors.As(err, &e) {
		f.Hint, f.Input = e.Hint, e.Input
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(f)
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}
