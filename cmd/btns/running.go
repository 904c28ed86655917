package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/btns-ipsec/btns/config"
	"github.com/btns-ipsec/btns/control"
	"github.com/btns-ipsec/btns/engine"
	"github.com/btns-ipsec/btns/host"
)

// puts is the part of an engine that another configuration is put in force with.
type puts interface {
	Reload(ctx context.Context, c host.Config, certified []string) ([]string, error)
}

// configuration is what a daemon runs with, and how it is changed.
type configuration struct {
	engine puts
	asked  upFlags // on the command line
	given  func(flag string) bool
	flags  upFlags // as file and command line together had them at the start
	listen []netip.Addr
	log    *slog.Logger
	level  *slog.LevelVar

	mu    sync.Mutex
	now   *config.Config
	trial *trial
}

// trial is a configuration that goes unless it is confirmed.
type trial struct {
	before *config.Config
	timer  *time.Timer
}

// running is a daemon as package control wants it.
type running struct {
	*engine.Engine
	*configuration
}

// Reload puts the file in force that the daemon was started with.
func (r running) Reload(ctx context.Context) (control.Applied, error) { return r.reload(ctx) }

func (c *configuration) reload(ctx context.Context) (control.Applied, error) {
	next, err := c.asked.read()
	if err != nil {
		return control.Applied{}, wrongFile(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.keep(ctx, next)
}

// keep puts next in force for good, and ends a trial. The caller holds mu.
func (c *configuration) keep(ctx context.Context, next *config.Config) (control.Applied, error) {
	a, err := c.put(ctx, next)
	if err == nil && c.trial != nil {
		c.trial.timer.Stop()
		c.trial = nil
		a.Text = append(a.Text, "what was on trial is no longer")
	}
	return a, err
}

// Apply puts a document in force.
func (c *configuration) Apply(ctx context.Context, d control.Document, revert time.Duration) (control.Applied, error) {
	next, err := config.Parse(d.Name, d.Text, func(name string) ([]byte, error) {
		if b, ok := d.Files[name]; ok {
			return b, nil
		}
		return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	})
	if err != nil {
		return control.Applied{}, wrongFile(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if revert == 0 {
		return c.keep(ctx, next)
	}
	before := c.now
	a, err := c.put(ctx, next)
	if err != nil {
		return a, err
	}
	if c.trial != nil { // what it goes back to was confirmed, the last trial was not
		c.trial.timer.Stop()
		before = c.trial.before
	}
	t := &trial{before: before}
	t.timer = time.AfterFunc(revert, func() { c.revert(t) })
	c.trial = t
	ends := time.Now().Add(revert).UTC()
	a.Reverts = &ends
	return a, nil
}

// revert takes back a trial that nobody has confirmed.
func (c *configuration) revert(t *trial) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.trial != t {
		return
	}
	c.trial = nil
	if _, err := c.put(context.Background(), t.before); err != nil {
		if !errors.Is(err, engine.ErrStopped) {
			c.log.Error("a configuration on trial could not be taken back", slog.Any("err", err), slog.String("remedy", "btns reload"))
		}
		return
	}
	c.log.Warn("a configuration was not confirmed in time: the one before is in force again")
}

// Confirm ends a trial well.
func (c *configuration) Confirm(context.Context) (control.Applied, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.trial == nil {
		return control.Applied{}, &control.Error{Text: "there is nothing to confirm", Hint: "it may have been taken back already; see: btns policy apply --help"}
	}
	c.trial.timer.Stop()
	c.trial = nil
	c.log.Info("the configuration on trial is confirmed")
	return control.Applied{Text: []string{"confirmed; kept until the next btns reload or restart, which read the file of btns up"}}, nil
}

// close ends a trial without a word: the daemon stops.
func (c *configuration) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.trial != nil {
		c.trial.timer.Stop()
		c.trial = nil
	}
}

// put puts next in force, all of it or nothing. The caller holds mu.
func (c *configuration) put(ctx context.Context, next *config.Config) (control.Applied, error) {
	if fixed := c.fixed(next); len(fixed) > 0 {
		return control.Applied{}, &control.Error{
			Text: "nothing was changed: this cannot be changed while btns runs: " + strings.Join(fixed, "; "),
			Hint: "restart btns for that, or leave it as it is",
		}
	}
	changes, err := c.engine.Reload(ctx, next.Host(), certified(next))
	if err != nil {
		return control.Applied{}, err
	}
	c.now = next
	f := c.asked
	f.take(next, c.given)
	if l, err := logLevel(f.logLevel); err == nil && l != c.level.Level() {
		changes = append(changes, fmt.Sprintf("log level %s", f.logLevel))
		c.level.Set(l)
	}
	warn(c.log, next)
	if len(changes) == 0 {
		changes = []string{"nothing has changed for peers and SAs"}
	}
	return control.Applied{Text: changes, Warnings: next.Warnings}, nil
}

// fixed names what would have to change and cannot.
func (c *configuration) fixed(next *config.Config) (out []string) {
	f := c.asked
	f.take(next, c.given)
	for _, v := range []struct{ key, is, want string }{
		{"plane", c.flags.plane, f.plane},
		{"state", c.flags.state, f.state},
		{"socket", c.flags.socket, f.socket},
		{"log.format", c.flags.logFormat, f.logFormat},
		{"listen", fmt.Sprint(c.listen), fmt.Sprint(next.Listen)},
	} {
		if v.is != v.want {
			out = append(out, fmt.Sprintf("%s is %s, the file says %s", v.key, v.is, v.want))
		}
	}
	return out
}

// wrongFile is the answer about a configuration with errors.
func wrongFile(err error) error {
	return &control.Error{Text: "nothing was changed: " + err.Error(), Hint: "check it with: btns config check FILE", Input: true}
}

// certified are the peers that want a self-signed certificate of our key.
func certified(c *config.Config) (names []string) {
	for i := range c.Peers {
		if c.Peers[i].Auth == config.SelfSigned {
			names = append(names, c.Peers[i].Name)
		}
	}
	return slices.Clip(names)
}

func warn(log *slog.Logger, c *config.Config) {
	for _, w := range c.Warnings {
		log.Warn("configuration", slog.String("why", w))
	}
}
