package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/btns-ipsec/btns/config"
	"github.com/btns-ipsec/btns/control"
	"github.com/btns-ipsec/btns/host"
	"github.com/btns-ipsec/btns/trust"
)

// forced is an engine that keeps what was put in force.
type forced struct {
	modes  []trust.Mode
	refuse error
}

func (f *forced) Reload(_ context.Context, c host.Config, _ []string) ([]string, error) {
	if f.refuse == nil {
		f.modes = append(f.modes, c.Trust.Mode)
	}
	return nil, f.refuse
}

func (f *forced) last() trust.Mode { return f.modes[len(f.modes)-1] }

// started is a daemon that was started with a file, and the path of that file.
func started(t *testing.T, text string, given ...string) (*configuration, *forced, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "btns.toml")
	write(t, path, text)
	now, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	asked := upFlags{config: path, state: "/state", socket: "/socket", plane: "auto", logFormat: "text", logLevel: "info"}
	c := &configuration{
		asked: asked, flags: asked, now: now, listen: now.Listen, level: new(slog.LevelVar), log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		given: func(flag string) bool { return strings.Contains(strings.Join(given, " "), flag) },
	}
	c.flags.take(now, c.given)
	f := &forced{modes: []trust.Mode{now.Trust}}
	c.engine = f
	return c, f, path
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func inline(text string) control.Document {
	return control.Document{Name: "new.toml", Text: []byte(text)}
}

// The file is read anew as a whole: an error, or a change that needs a restart, changes nothing.
func TestReloadOfTheFile(t *testing.T) {
	for _, tc := range []struct {
		name, before, after string
		given               []string
		err                 string
		input               bool
	}{
		{name: "a valid change", after: "trust = 'strict'\n"},
		{name: "an unknown key", after: "trust = 'strict'\ncolour = 1\n", err: "btns.toml:2:1: colour: there is no such key", input: true},
		{name: "two errors", after: "trust = 'x'\nprobe = 3\n", err: "btns.toml:2:1: probe", input: true},
		{name: "another plane", after: "plane = 'tun'\ntrust = 'strict'\n", err: "plane is auto, the file says tun"},
		{name: "another state, socket and log", after: "state = '/a'\nsocket = '/b'\n[log]\nformat = 'json'\n", err: "state is /state, the file says /a; socket is /socket, the file says /b; log.format is text"},
		{name: "listen is gone", before: "listen = ['192.0.2.1']\n", after: "trust = 'strict'\n", err: "listen is [192.0.2.1], the file says []"},
		{name: "a state that is no longer in the file", before: "state = '/a'\n", after: "trust = 'strict'\n", err: "state is /a, the file says /state"},
		{name: "a plane that the command line decides", after: "plane = 'tun'\ntrust = 'strict'\n", given: []string{"plane"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, f, path := started(t, tc.before, tc.given...)
			write(t, path, tc.after)
			_, err := c.reload(t.Context())
			if tc.err == "" {
				if err != nil || f.last() != trust.Strict || c.now.Trust != trust.Strict {
					t.Errorf("%v, %v", f.last(), err)
				}
				return
			}
			var e *control.Error
			if !errors.As(err, &e) || !strings.Contains(e.Text, tc.err) || !strings.Contains(e.Text, "nothing was changed") || e.Hint == "" || e.Input != tc.input {
				t.Errorf("%#v, want %s", err, tc.err)
			}
			if len(f.modes) != 1 || c.now.Trust != trust.AcceptNew {
				t.Error("something was put in force")
			}
		})
	}
}

// The level of the log follows the file, unless the command line has decided it.
func TestLogLevelIsReloaded(t *testing.T) {
	for given, want := range map[string]slog.Level{"": slog.LevelDebug, "log-level": slog.LevelInfo} {
		c, _, path := started(t, "", given)
		if given == "" {
			c.given = func(string) bool { return false }
		}
		write(t, path, "[log]\nlevel = 'debug'\n")
		if _, err := c.reload(t.Context()); err != nil || c.level.Level() != want {
			t.Errorf("given %q: %v, %v", given, c.level.Level(), err)
		}
	}
}

// A trial is taken back by the daemon itself, unless it is confirmed, or ended by what was put in force for good.
func TestTrial(t *testing.T) {
	apply := func(mode string, revert time.Duration) func(*testing.T, *configuration) {
		return func(t *testing.T, c *configuration) {
			a, err := c.Apply(t.Context(), inline("trust = '"+mode+"'"), revert)
			if err != nil || (a.Reverts != nil) != (revert > 0) {
				t.Errorf("%+v, %v", a, err)
			}
		}
	}
	sleep := func(d time.Duration) func(*testing.T, *configuration) {
		return func(*testing.T, *configuration) { time.Sleep(d); synctest.Wait() } // of the bubble
	}
	confirm := func(t *testing.T, c *configuration) {
		if _, err := c.Confirm(t.Context()); err != nil {
			t.Error(err)
		}
	}
	nothing := func(t *testing.T, c *configuration) {
		if _, err := c.Confirm(t.Context()); err == nil {
			t.Error("there was something to confirm")
		}
	}
	reload := func(t *testing.T, c *configuration) {
		if _, err := c.reload(t.Context()); err != nil {
			t.Error(err)
		}
	}
	broken := func(t *testing.T, c *configuration) {
		if _, err := c.Apply(t.Context(), inline("trust = 3"), time.Minute); err == nil {
			t.Error("a broken document is put in force")
		}
	}
	for _, tc := range []struct {
		name  string
		steps []func(*testing.T, *configuration)
		want  trust.Mode
	}{
		{"in force at once", []func(*testing.T, *configuration){apply("strict", time.Minute), sleep(59 * time.Second)}, trust.Strict},
		{"taken back", []func(*testing.T, *configuration){apply("strict", time.Minute), sleep(61 * time.Second), nothing}, trust.AcceptNew},
		{"confirmed", []func(*testing.T, *configuration){apply("strict", time.Minute), confirm, sleep(time.Hour)}, trust.Strict},
		{"without a time it stays", []func(*testing.T, *configuration){nothing, apply("strict", 0), sleep(time.Hour), nothing}, trust.Strict},
		{"a second trial goes back to before the first", []func(*testing.T, *configuration){
			apply("strict", time.Minute), sleep(50 * time.Second), apply("off", time.Minute), sleep(50 * time.Second), apply("ask", time.Minute), sleep(61 * time.Second),
		}, trust.AcceptNew},
		{"a second trial has its own time", []func(*testing.T, *configuration){apply("strict", time.Minute), sleep(50 * time.Second), apply("off", time.Minute), sleep(50 * time.Second)}, trust.Off},
		{"a trial after a confirmed one goes back to that", []func(*testing.T, *configuration){apply("strict", time.Minute), confirm, apply("off", time.Minute), sleep(61 * time.Second)}, trust.Strict},
		{"what is put in force for good ends it", []func(*testing.T, *configuration){apply("strict", time.Minute), apply("off", 0), sleep(time.Hour)}, trust.Off},
		{"a reload ends it", []func(*testing.T, *configuration){apply("strict", time.Minute), reload, sleep(time.Hour), nothing}, trust.AcceptNew},
		{"a broken document does not", []func(*testing.T, *configuration){apply("strict", time.Minute), broken, sleep(61 * time.Second)}, trust.AcceptNew},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, f, _ := started(t, "")
				for _, step := range tc.steps {
					step(t, c)
				}
				if f.last() != tc.want || c.now.Trust != tc.want {
					t.Errorf("%v is in force, want %v", f.last(), tc.want)
				}
				c.close()
				n := len(f.modes)
				time.Sleep(time.Hour)
				if len(f.modes) != n {
					t.Error("a daemon that has stopped puts something in force")
				}
			})
		})
	}
}

// A host that refuses keeps what it has.
func TestRefusedByTheHost(t *testing.T) {
	c, f, _ := started(t, "")
	f.refuse = errors.New("host: stopping")
	if _, err := c.Apply(t.Context(), inline("trust = 'strict'"), time.Minute); !errors.Is(err, f.refuse) || c.trial != nil || c.now.Trust != trust.AcceptNew {
		t.Errorf("%v, %+v", err, c.trial)
	}
}
