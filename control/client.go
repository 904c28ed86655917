package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"syscall"
	"time"
)

// NoDaemonError says that nobody answers on the socket.
type NoDaemonError struct {
	Path string
	Err  error
}

func (e *NoDaemonError) Error() string { return "no daemon at " + e.Path }
func (e *NoDaemonError) Unwrap() error { return e.Err }

// Error is what the daemon answered to a request that it could not fulfil.
type Error struct {
	Text  string // what failed and why
	Hint  string // what to do; may be empty
	Input bool   // what was handed in is wrong, such as a configuration
}

func (e *Error) Error() string { return e.Text }

// maxAnswer bounds an answer; 10,000 peers take about 8 MB.
const maxAnswer = 256 << 20

// Client talks to the daemon at a socket. It needs no Close.
type Client struct {
	path string
	http http.Client
	host string // see For
}

// NewClient makes a client; nothing is opened before the first request.
func NewClient(path string) *Client {
	c := &Client{path: path}
	c.http.Transport = &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		},
		DisableKeepAlives: true,
	}
	return c
}

// For returns a client for commands about a host that the user named so: what is recorded for that name comes before what is
// recorded for its address. An empty name is none.
func (c *Client) For(name string) *Client {
	d := *c
	d.host = name
	return &d
}

// Version asks who is there.
func (c *Client) Version(ctx context.Context) (v Version, err error) {
	return v, c.get(ctx, "/v1/version", &v)
}

// Status asks whether the daemon works.
func (c *Client) Status(ctx context.Context) (s Status, err error) {
	return s, c.get(ctx, "/v1/status", &s)
}

// Peers lists all peers, ordered by address.
func (c *Client) Peers(ctx context.Context) (p []Peer, err error) {
	return p, c.get(ctx, "/v1/peers", &p)
}

// ID asks for the daemon's own key.
func (c *Client) ID(ctx context.Context) (id ID, err error) {
	return id, c.get(ctx, "/v1/id", &id)
}

// Pins lists the recorded keys.
func (c *Client) Pins(ctx context.Context) (p []Pin, err error) {
	return p, c.get(ctx, "/v1/trust", &p)
}

// Explain asks why traffic with an address is treated as it is; port 0 is any.
func (c *Client) Explain(ctx context.Context, addr netip.Addr, port uint16) (x Explanation, err error) {
	q := url.Values{"addr": {addr.String()}}
	if port != 0 {
		q.Set("port", strconv.Itoa(int(port)))
	}
	return x, c.get(ctx, "/v1/explain?"+q.Encode(), &x)
}

// Wait returns when traffic with an address is protected, or when it will not be, or after timeout.
func (c *Client) Wait(ctx context.Context, addr netip.Addr, timeout time.Duration) (w Waited, err error) {
	q := url.Values{"addr": {addr.String()}, "timeout": {timeout.String()}, "host": {c.host}}
	return w, c.get(ctx, "/v1/wait?"+q.Encode(), &w)
}

// Down deletes the SAs with a peer.
func (c *Client) Down(ctx context.Context, addr netip.Addr) (d Done, err error) {
	return d, c.post(ctx, "/v1/down", target{Addr: addr.String()}, &d)
}

// Forget removes what is recorded of an address, or with an invalid addr of a key.
func (c *Client) Forget(ctx context.Context, addr netip.Addr, name string) (d Done, err error) {
	return d, c.post(ctx, "/v1/trust/forget", c.target(addr, name), &d)
}

// Accept records another key for an address; an empty name takes the key that was refused last.
func (c *Client) Accept(ctx context.Context, addr netip.Addr, name string) (d Done, err error) {
	return d, c.post(ctx, "/v1/trust/accept", c.target(addr, name), &d)
}

// Watch calls each for every event until the context ends, the daemon stops, or each returns an error.
func (c *Client) Watch(ctx context.Context, each func(Event) error) error {
	resp, err := c.do(ctx, http.MethodGet, "/v1/watch", nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if len(lines.Bytes()) == 0 { // sent so that a dead reader is noticed
			continue
		}
		var e Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return fmt.Errorf("control: event: %w", err)
		}
		if err := each(e); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return lines.Err()
}

func (c *Client) target(addr netip.Addr, name string) target {
	t := target{Name: name}
	if addr.IsValid() {
		t.Addr, t.Host = addr.String(), c.host
	}
	return t
}

func (c *Client) get(ctx context.Context, path string, answer any) error {
	return c.call(ctx, http.MethodGet, path, nil, answer)
}

func (c *Client) post(ctx context.Context, path string, body, answer any) error {
	b, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("control: request: %w", err)
	}
	return c.call(ctx, http.MethodPost, path, b, answer)
}

func (c *Client) call(ctx context.Context, method, path string, body []byte, answer any) error {
	resp, err := c.do(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(answer); err != nil {
		return fmt.Errorf("control: answer to %s: %w", path, err)
	}
	return nil
}

// do returns an answer of status 200, whose body the caller closes.
func (c *Client) do(ctx context.Context, method, path string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://btns"+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("control: %w", err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	var f failure
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&f); err != nil || f.Text == "" {
		return nil, &Error{Text: "the daemon answered " + resp.Status, Hint: "are btns and the daemon of the same version? see: btns version"}
	}
	return nil, &Error{f.Text, f.Hint, f.Input}
}

func (c *Client) unreachable(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return &NoDaemonError{c.path, err}
	case errors.Is(err, fs.ErrPermission):
		return &Error{Text: "no permission to use the socket " + c.path, Hint: "run this command as root, for example with sudo"}
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return fmt.Errorf("control: %s: %w", c.path, err)
}
