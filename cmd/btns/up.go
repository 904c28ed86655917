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

func up(cmd *cobra.Command, f upFlags) error {
	settings, err := f.settle(cmd)
	if err != nil {
		return err
	}
	log, err := newLogger(cmd.ErrOrStderr(), f.logFormat, f.logLevel)
	if err != nil {
		return &usageError{err.Error(), cmd.CommandPath()}
	}
	if err := engine.CheckPlane(f.plane); err != nil {
		return planeError(cmd, err)
	}
	for _, w := range settings.Warnings {
		log.Warn("configuration", slog.String("why", w))
	}
	if err := checkPrivilege(); err != nil {
		return err
	}
	listener, err := control.Listen(f.socket)
	if err != nil {
		if errors.As(err, new(*control.InUseError)) {
			return hint(err, "stop that one first, or give this one a --socket and a --state of its own")
		}
		return err
	}
	o := engine.Options{State: f.state, Plane: f.plane, Host: settings.Host(), Log: log}
	for i := range settings.Peers {
		if settings.Peers[i].Auth == config.SelfSigned {
			o.Certified = append(o.Certified, settings.Peers[i].Name)
		}
	}
	e, err := engine.Open(o)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	return serve(cmd.Context(), e, listener, log)
}

// serve answers on the socket until ctx ends, and then stops the engine in good order.
func serve(ctx context.Context, e *engine.Engine, listener net.Listener, log *slog.Logger) error {
	server := control.NewServer(e, programVersion())
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	plane := e.Plane()
	log.Info("ready", slog.String("version", programVersion()), slog.String("plane", plane.Name), slog.String("device", plane.Device),
		slog.String("name", e.PublicKey().Fingerprint().String()))
	for _, p := range plane.Problems {
		log.Warn("plane", slog.String("why", p))
	}
	notify(daemon.SdNotifyReady, log)
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	notify(daemon.SdNotifyStopping, log)
	log.Info("stopping")
	err = errors.Join(err, server.Close(), e.Close())
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

func newLogger(w io.Writer, format, level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("--log-level %s: choose debug, info, warn or error", level)
	}
	o := &slog.HandlerOptions{Level: l}
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

// settle joins the file and the flags: a flag that was given wins.
func (f *upFlags) settle(cmd *cobra.Command) (*config.Config, error) {
	c, err := config.Default()
	if f.config != "" {
		c, err = config.Load(f.config)
	}
	if err != nil {
		return nil, &inputError{err}
	}
	given := cmd.Flags().Changed
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
	return c, nil
}
