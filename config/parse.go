package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"github.com/btns-ipsec/btns/host"
	"github.com/btns-ipsec/btns/policy"
	"github.com/btns-ipsec/btns/probe"
	"github.com/btns-ipsec/btns/protect"
	"github.com/btns-ipsec/btns/selector"
	"github.com/btns-ipsec/btns/trust"
)

// reader turns a document into a Config and collects what is wrong with it.
type reader struct {
	name string
	read func(string) ([]byte, error)
	at   map[string]position
	now  time.Time // by which certificates have ended
	aes  bool      // what is offered begins with AES
	errs []*Error

	listen  []netip.Addr
	pad     []policy.PADEntry
	spd     []policy.Entry
	nullPAD string // the [[peer]] without authentication, if there is one

	x509      fileX509
	certified host.Certified // by [x509]
	anchors   host.Anchors   // by the names of their files; nil: the file is wrong
	warnings  []string
}

// Parse reads a document. name is for messages; read opens the files that the document names.
func Parse(name string, text []byte, read func(string) ([]byte, error)) (*Config, error) {
	return parseOn(name, text, read, fastAES())
}

// parseOn is Parse on a machine that is quick at AES or not.
func parseOn(name string, text []byte, read func(string) ([]byte, error), aes bool) (*Config, error) {
	var f file
	d := toml.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return nil, tomlError(name, err)
	}
	r := &reader{name: name, read: read, aes: aes, at: positions(text), now: time.Now(), x509: f.X509, anchors: host.Anchors{}}
	c := r.config(&f)
	if len(r.errs) > 0 {
		return nil, r.joined()
	}
	p, err := policy.New(r.spd, r.pad)
	if err != nil {
		return nil, &Error{File: name, Text: err.Error()}
	}
	c.Policy, c.Anchors, c.Warnings = p, r.anchors, append(r.warnings, p.Warnings()...)
	return c, nil
}

// tomlError gives the errors of the TOML decoder their place.
func tomlError(name string, err error) error {
	var one *toml.DecodeError
	var unknown *toml.StrictMissingError
	switch {
	case errors.As(err, &unknown):
		var errs []error
		for i := range unknown.Errors {
			e := &unknown.Errors[i]
			line, column := e.Position()
			errs = append(errs, &Error{name, line, column, strings.Join(e.Key(), "."), "there is no such key; docs/config.md lists all keys"})
		}
		return errors.Join(errs...)
	case errors.As(err, &one):
		line, column := one.Position()
		return &Error{name, line, column, strings.Join(one.Key(), "."), strings.TrimPrefix(one.Error(), "toml: ")}
	}
	return &Error{File: name, Text: err.Error()}
}

// fail notes that the value of key is wrong. A key that is not written is reported where its table begins.
func (r *reader) fail(key, format string, args ...any) {
	at, ok := r.at[key]
	for table := key; !ok && strings.Contains(table, "."); {
		table = table[:strings.LastIndex(table, ".")]
		at, ok = r.at[table]
	}
	r.errs = append(r.errs, &Error{r.name, at.line, at.column, key, fmt.Sprintf(format, args...)})
}

// joined is all errors, in the order of the file.
func (r *reader) joined() error {
	slices.SortStableFunc(r.errs, func(a, b *Error) int {
		return cmp.Or(a.Line-b.Line, a.Column-b.Column, strings.Compare(a.Key, b.Key))
	})
	errs := make([]error, len(r.errs))
	for i, e := range r.errs {
		errs[i] = e
	}
	return errors.Join(errs...)
}

func (r *reader) source(key string) string {
	if at, ok := r.at[key]; ok {
		return fmt.Sprintf("%s:%d", r.name, at.line)
	}
	return ""
}

func (r *reader) config(f *file) *Config {
	c := &Config{
		aes:   r.aes,
		Plane: oneOf(r, "plane", f.Plane, PlaneAuto, map[string]Plane{"auto": PlaneAuto, "kernel": PlaneKernel, "tun": PlaneTUN}),
		State: f.State, Socket: f.Socket,
		Log: Log{
			Format: oneOf(r, "log.format", f.Log.Format, "text", same("text", "json")),
			Level:  oneOf(r, "log.level", f.Log.Level, "info", same("debug", "info", "warn", "error")),
		},
		Probe: r.probe(f.Probe),
		Trust: oneOf(r, "trust", f.Trust, trust.AcceptNew, map[string]trust.Mode{
			"accept-new": trust.AcceptNew, "ask": trust.Ask, "strict": trust.Strict, "off": trust.Off,
		}),
	}
	c.Recycled = r.prefixes("recycled", f.Recyc)
	r.listens(f.Listen)
	c.Listen = r.listen
	r.spd = policy.Untouchable()
	if f.X509.Certificate+f.X509.OwnKey != "" {
		r.certified = r.ownChain("x509", f.X509.Certificate, f.X509.OwnKey)
		c.Certified = r.certified
	}
	names := map[string]bool{}
	for i := range f.Peer {
		key := fmt.Sprintf("peer[%d]", i)
		if p := r.peer(key, &f.Peer[i]); names[p.Name] {
			r.fail(key+".name", "another peer is called %q; give each its own name", p.Name)
		} else {
			names[p.Name] = true
			c.Peers = append(c.Peers, p)
		}
	}
	for i := range f.Policy {
		r.spd = append(r.spd, r.entry(fmt.Sprintf("policy[%d]", i), &f.Policy[i], names))
	}
	r.unusedX509(c.Peers)
	r.rest(&f.Rest)
	return c
}

// listens reads the addresses on which IKE is spoken.
func (r *reader) listens(texts []string) {
	for _, text := range texts {
		if a, ok := r.addr("listen", text); ok {
			r.listen = append(r.listen, a)
		}
	}
	if texts != nil && len(texts) == 0 {
		r.fail("listen", "an empty list is no address at all; leave the key out for all addresses")
	}
}

// rest is the traffic that nothing else is about, and the peers that nobody vouches for.
func (r *reader) rest(f *fileDefault) {
	u := policy.Unknown{
		Fallback: r.outbound("default", f.Fallback, f.Outbound, policy.Prefer), Inbound: r.inbound("default", f.Inbound), NullOK: f.NullOK,
		Lifetime: r.lifetime("default", f.Rekey, f.Lifetime, policy.DefaultLifetime()),
	}
	u.Waiting = r.waiting("default.waiting", f.Waiting, u.Fallback)
	u.Offer, _ = r.esp("default.esp", f.ESP)
	r.spd = append(r.spd, policy.Rest(u)...)
	if f.UnknownPeers == nil || *f.UnknownPeers {
		r.pad = append(r.pad, policy.Anyone())
	}
	open := slices.ContainsFunc(r.spd, func(e policy.Entry) bool { return e.NullOK && e.Peer == "" })
	switch {
	case open && r.nullPAD != "":
		r.fail("default.null_ok", "peer %q has no authentication, and such peers cannot be told apart; remove it, or every null_ok", r.nullPAD)
	case open:
		r.pad = append(r.pad, policy.Anonymous())
	}
}

func (r *reader) probe(v any) probe.Scope {
	const hint = `write "all", "local", or a list of prefixes such as ["192.0.2.0/24"]`
	switch v := v.(type) {
	case nil:
		return probe.Scope{}
	case string:
		return oneOf(r, "probe", v, probe.Scope{}, map[string]probe.Scope{"all": {}, "local": {Mode: probe.Local}})
	case []any:
		s := probe.Scope{Mode: probe.Listed}
		for _, x := range v {
			text, _ := x.(string)
			p, err := netip.ParsePrefix(text)
			if err != nil || p != p.Masked() {
				r.fail("probe", "%v is not a prefix; %s", x, hint)
				continue
			}
			s.List = append(s.List, p)
		}
		return s
	}
	r.fail("probe", "%v is neither a word nor a list; %s", v, hint)
	return probe.Scope{}
}

// selectors reads a list of selectors; none is all traffic.
func (r *reader) selectors(key string, texts []string) selector.Set {
	if texts == nil {
		return selector.Any()
	}
	var out selector.Set
	for _, t := range texts {
		if addrs, upper, _ := strings.Cut(t, " "); addrs == "any" {
			for _, family := range []string{"any4 ", "any6 "} {
				if s, err := selector.Parse(strings.TrimSpace(family + upper)); err == nil {
					out = append(out, s)
				} else {
					r.fail(key, `%v; write for instance "any tcp/22"`, err)
					break
				}
			}
			continue
		}
		s, err := selector.Parse(t)
		if err != nil {
			r.fail(key, `%v; write for instance "192.0.2.0/24", "2001:db8::1 tcp/22" or "any udp/53"`, err)
			continue
		}
		out = append(out, s)
	}
	if len(texts) == 0 {
		r.fail(key, "an empty list matches nothing; leave the key out for all traffic")
	}
	return out
}

// lifetime reads rekey and lifetime of table. With rekey alone the rest follows from it.
func (r *reader) lifetime(table, rekey, life string, otherwise protect.Lifetime) protect.Lifetime {
	l := otherwise
	if soft, ok := r.duration(table+".rekey", rekey, time.Second); ok {
		l.Soft.Time, l.Hard.Time, l.Jitter = soft, soft+soft/5, soft/10
	}
	if hard, ok := r.duration(table+".lifetime", life, time.Second); ok {
		l.Hard.Time = hard
	}
	if l.Hard.Time <= l.Soft.Time {
		r.fail(table+".lifetime", "%v ends before new keys are made at %v; make it longer than rekey", l.Hard.Time, l.Soft.Time)
	}
	return l
}
