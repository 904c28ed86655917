package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/coreos/go-systemd/v22/daemon"
)

// hangups are the SIGHUP of a daemon: read the configuration anew. One that comes because the terminal has gone, on which
// the daemon was started, ends it in good order instead.
type hangups struct {
	signals  chan os.Signal
	terminal bool
}

func takeHangups() *hangups {
	h := &hangups{signals: make(chan os.Signal, 1)}
	h.terminal = !signal.Ignored(syscall.SIGHUP) && hasTerminal() // nohup: whatever becomes of the terminal
	signal.Reset(syscall.SIGHUP)
	signal.Notify(h.signals, syscall.SIGHUP)
	return h
}

func (h *hangups) stop() { signal.Stop(h.signals) }

func (h *hangups) terminalGone() bool { return h.terminal && !hasTerminal() }

// hasTerminal reports whether the process has a controlling terminal.
func hasTerminal() bool {
	f, err := os.Open("/dev/tty")
	if err != nil {
		return false
	}
	f.Close()
	return true
}

// hangup reloads, and logs what came of it.
func (r running) hangup(ctx context.Context) {
	notify(daemon.SdNotifyReloading, r.log)
	a, err := r.reload(ctx)
	if err != nil {
		r.log.Error("the configuration was not reloaded", slog.Any("err", err))
	} else {
		r.log.Info("reloaded", slog.String("why", strings.Join(a.Text, "; ")))
	}
	notify(daemon.SdNotifyReady, r.log)
}
