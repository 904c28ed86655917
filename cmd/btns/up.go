package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"

	"github.com/btns-ipsec/btns/config"
	"github.com/btns-ipsec/btns/control"
	"github.com/btns-ipsec/btns/engine"
)

// upFlags are what `btns up` was told.
type upFlags struct {
	config, state, socket, plane, logFormat, logLevel string
}

func newUp(g *globals) *cobra.Command {
	var f upFlags
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Protect this host's traffic, in the foreground, until interrupted",
		Long: `Runs btns for this host: traffic with hosts that run btns too is protected from the first answer on, traffic with all
others is left alone. It needs root, and no configuration. On the first start it makes this host's key, in the state
directory; keep that, for it is what other hosts recognize. SIGTERM or Ctrl-C ends it in good order and takes back
everything that it changed on the host.

Inside a network namespace made with "ip netns", state directory and socket are that namespace's own.`,
		Args: exactly(),
	}
	cmd.Flags().StringVar(&f.config, "config", "", "the configuration (TOML); none is needed")
	cmd.Flags().StringVar(&f.state, "state", defaultState(), "the directory with this host's key and what is known of others")
	cmd.Flags().StringVar(&f.plane, "plane", "auto", "what carries the packets: auto, kernel or tun")
	cmd.Flags().StringVar(&f.logFormat, "log-format", "text", "text or json")
	cmd.Flags().StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		f.socket = g.socket
		return up(cmd, f)
	}
	return cmd
}

func up(cmd *cobra.Command, asked upFlags) error {
	settings, err := asked.read()
	if err != nil {
		return &inputError{err}
	}
	f, given := asked, cmd.Flags().Changed
	f.take(settings, given)
	level := new(slog.LevelVar)
	log, err := newLogger(cmd.ErrOrStderr(), f.logFormat, f.logLevel, level)
	if err != nil {
		return &usageError{err.Error(), cmd.CommandPath()}
	}
	if err := engine.CheckPlane(f.plane); err != nil {
		return planeError(cmd, err)
	}
	warn(log, settings)
	if err := checkPrivilege(); err != nil {
		return err
	}
	hup := takeHangups()
	defer hup.stop()
	listener, err := control.Listen(f.socket)
	if err != nil {
		if errors.As(err, new(*control.InUseError)) {
			return hint(err, "stop that one first, or give this one a --socket and a --state of its own")
		}
		return err
	}
	go saveMemory(cmd.Context())
	e, err := engine.Open(engine.Options{State: f.state, Plane: f.plane, Host: settings.Host(), Log: log, Certified: certified(settings)})
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	return serve(cmd.Context(), running{e, &configuration{
		engine: e, asked: asked, given: given, flags: f, listen: settings.Listen, log: log, level: level, now: settings,
	}}, listener, hup)
}

// serve answers on the socket until ctx ends, and then stops the engine in good order.
func serve(ctx context.Context, r running, listener net.Listener, hup *hangups) error {
	server, log := control.NewServer(r, programVersion()), r.log
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	plane := r.Plane()
	log.Info("ready", slog.String("version", programVersion()), slog.String("plane", plane.Name), slog.String("device", plane.Device),
		slog.String("name", r.PublicKey().Fingerprint().String()))
	for _, p := range plane.Problems {
		log.Warn("plane", slog.String("why", p))
	}
	notify(daemon.SdNotifyReady, log)
	var err error
	for alive := true; alive; {
		select {
		case <-ctx.Done():
			alive = false
		case err = <-failed:
			alive = false
		case <-hup.signals:
			if alive = !hup.terminalGone(); alive {
				r.hangup(ctx)
			}
		}
	}
	notify(daemon.SdNotifyStopping, log)
	log.Info("stopping")
	r.close()
	err = errors.Join(err, server.Close(), r.Engine.Close())
	log.Info("stopped")
	return err
}

func notify(state string, log *slog.Logger) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn("systemd could not be told", slog.Any("err", err))
	}
}

// planeError adds to a plane that cannot be what can.
func planeError(cmd *cobra.Command, err error) error {
	var plane *engine.PlaneError
	switch {
	case errors.As(err, &plane):
		return &usageError{fmt.Sprintf("--plane %s: choose auto, kernel or tun", plane.Name), cmd.CommandPath()}
	case errors.Is(err, engine.ErrNoKernelPlane):
		return hint(errors.New("--plane kernel: this version has no kernel plane yet"), "leave --plane out, or say --plane tun")
	}
	return err
}

func logLevel(text string) (l slog.Level, err error) {
	if err = l.UnmarshalText([]byte(text)); err != nil {
		return l, fmt.Errorf("--log-level %s: choose debug, info, warn or error", text)
	}
	return l, nil
}

func newLogger(w io.Writer, format, text string, level *slog.LevelVar) (*slog.Logger, error) {
	l, err := logLevel(text)
	if err != nil {
		return nil, err
	}
	level.Set(l)
	o := &slog.HandlerOptions{Level: level}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, o)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, o)), nil
	}
	return nil, fmt.Errorf("--log-format %s: choose text or json", format)
}

// checkPrivilege fails early, with words: what comes later would each fail in its own way.
func checkPrivilege() error {
	const netAdmin = 12
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return nil // the plane will say what it lacks
	}
	for line := range strings.Lines(string(status)) {
		if hex, ok := strings.CutPrefix(line, "CapEff:"); ok {
			set, err := strconv.ParseUint(strings.TrimSpace(hex), 16, 64)
			if err == nil && set&(1<<netAdmin) == 0 {
				return hint(errors.New("btns up needs root: it makes a network device and routes (CAP_NET_ADMIN)"), "sudo btns up")
			}
		}
	}
	return nil
}

// read reads the file, if there is one.
func (f *upFlags) read() (*config.Config, error) {
	if f.config == "" {
		return config.Default()
	}
	return config.Load(f.config)
}

// take adds what the file says; a flag that was given wins.
func (f *upFlags) take(c *config.Config, given func(flag string) bool) {
	choose := func(flag string, value *string, file string) {
		if file != "" && !given(flag) {
			*value = file
		}
	}
	choose("plane", &f.plane, string(c.Plane))
	choose("state", &f.state, c.State)
	choose("socket", &f.socket, c.Socket)
	choose("log-format", &f.logFormat, c.Log.Format)
	choose("log-level", &f.logLevel, c.Log.Level)
}
