package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/btns-ipsec/btns/control"
)

// demoHost is one of the two hosts: a network namespace, and a daemon in it while there is one.
type demoHost struct {
	name   string // "a", "b"
	ns     string
	device string
	v4, v6 string
	echo   *echo

	socket string
	daemon *exec.Cmd
	exited chan struct{} // closed when daemon has ended
	log    string        // file
}

const demoPrefix = "btns-demo-"

// build makes the hosts and the cable between them. The addresses are of no real network.
func (d *demo) build(ctx context.Context) error {
	removeStale(ctx)
	var err error
	if d.dir, err = os.MkdirTemp("", demoPrefix+strconv.Itoa(os.Getpid())+"-"); err != nil {
		return err
	}
	tag := demoPrefix + strconv.Itoa(os.Getpid())
	d.a = &demoHost{name: "a", ns: tag + "-a", device: "cable", v4: "198.18.0.1", v6: "2001:2:0:1::1"}
	d.b = &demoHost{name: "b", ns: tag + "-b", device: "cable", v4: "198.18.0.2", v6: "2001:2:0:1::2"}
	d.wire = tag + "-w"
	if err := d.lay(ctx); err != nil {
		return err
	}
	for _, h := range []*demoHost{d.a, d.b} {
		for _, args := range [][]string{
			{"link", "set", "lo", "up"},
			{"addr", "add", h.v4 + "/24", "dev", h.device},
			{"addr", "add", h.v6 + "/64", "dev", h.device, "nodad"},
			{"link", "set", h.device, "up"},
		} {
			if err := ip(ctx, append([]string{"-n", h.ns}, args...)...); err != nil {
				return err
			}
		}
	}
	for _, h := range []*demoHost{d.a, d.b} {
		if h.echo, err = startEcho(h); err != nil {
			return err
		}
	}
	d.title("Two hosts and a cable")
	d.say("   a: %s and %s, b: %s and %s; network namespaces of this machine.", d.a.v4, d.a.v6, d.b.v4, d.b.v6)
	return nil
}

// lay joins the two hosts by a cable with a tap in it: a bridge in a namespace of its own. What is seen there is what
// somebody on the network sees; on its own interface a host sees also what came out of ESP.
func (d *demo) lay(ctx context.Context) error {
	for _, ns := range []string{d.wire, d.a.ns, d.b.ns} {
		if err := ip(ctx, "netns", "add", ns); err != nil {
			return err
		}
	}
	steps := [][]string{{"link", "add", "tap", "type", "bridge"}, {"link", "set", "tap", "up"}}
	for _, h := range []*demoHost{d.a, d.b} {
		steps = append(steps,
			[]string{"link", "add", "name", h.name, "type", "veth", "peer", "name", h.device, "netns", h.ns},
			[]string{"link", "set", "dev", h.name, "addrgenmode", "none"}, // the cable itself says nothing
			[]string{"link", "set", "dev", h.name, "master", "tap", "up"})
	}
	for _, args := range steps {
		if err := ip(ctx, append([]string{"-n", d.wire}, args...)...); err != nil {
			return err
		}
	}
	return nil
}

// cleanUp ends the daemons and removes what was made, also after a failure or Ctrl-C.
func (d *demo) cleanUp() error {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	var errs []error
	for _, h := range []*demoHost{d.a, d.b} {
		if h == nil {
			continue
		}
		errs = append(errs, h.down())
		if h.echo != nil {
			h.echo.close()
		}
		errs = append(errs, removeNamespace(ctx, h.ns))
	}
	errs = append(errs, removeNamespace(ctx, d.wire))
	if d.dir != "" {
		errs = append(errs, os.RemoveAll(d.dir))
	}
	return errors.Join(errs...)
}

func removeNamespace(ctx context.Context, name string) error {
	if _, err := os.Stat(filepath.Join(netnsDir, name)); name != "" && err == nil {
		return ip(ctx, "netns", "del", name)
	}
	return nil // it was never made
}

// removeStale removes the namespaces and directories of earlier runs that were killed.
func removeStale(ctx context.Context) {
	found, _ := filepath.Glob(filepath.Join(netnsDir, demoPrefix+"*"))
	dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), demoPrefix+"*"))
	found = append(found, dirs...)
	for _, path := range found {
		name := filepath.Base(path)
		pid, _, _ := strings.Cut(strings.TrimPrefix(name, demoPrefix), "-")
		n, err := strconv.Atoi(pid)
		switch {
		case err != nil || syscall.Kill(n, 0) != syscall.ESRCH:
		case filepath.Dir(path) == netnsDir:
			_ = ip(ctx, "netns", "del", name) // in our way or not, it is not ours to insist
		default:
			_ = os.RemoveAll(path)
		}
	}
}

// up starts btns on h; identity names the key, in a directory of its own.
func (h *demoHost) up(ctx context.Context, dir, identity string) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	base := filepath.Join(dir, h.name+"-"+identity)
	h.socket, h.log = base+".sock", base+".log"
	log, err := os.Create(h.log)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command("ip", "netns", "exec", h.ns, exe, "up", "--state", base, "--socket", h.socket, "--log-level", "debug") //nolint:noctx // it is told to end in words
	cmd.Stderr = log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM} // Ctrl-C is for us: we end it in order
	started, exited := make(chan error, 1), make(chan struct{})
	go func() {
		runtime.LockOSThread() // Pdeathsig is sent when this thread ends, not when the program does
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended is in its log
			close(exited)
		}
	}()
	if err := <-started; err != nil {
		return err
	}
	h.daemon, h.exited = cmd, exited
	return h.ready(ctx)
}

func (h *demoHost) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := h.client().Version(ctx); err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-h.exited:
			return fmt.Errorf("btns up on %s has ended:\n%s", h.name, h.tail())
		case <-ctx.Done():
			return fmt.Errorf("btns up on %s does not answer:\n%s", h.name, h.tail())
		}
	}
}

// down ends the daemon in good order, and by force when it does not.
func (h *demoHost) down() error {
	if h.daemon == nil {
		return nil
	}
	_ = h.daemon.Process.Signal(syscall.SIGTERM) // it may have ended
	timer := time.NewTimer(10 * time.Second)
	defer timer.Stop()
	select {
	case <-h.exited:
		h.daemon = nil
		return nil
	case <-timer.C:
		h.kill()
		return fmt.Errorf("btns up on %s did not end when told to:\n%s", h.name, h.tail())
	}
}

// kill is what a crash or a pulled plug is to the other side.
func (h *demoHost) kill() {
	_ = h.daemon.Process.Kill()
	<-h.exited
	h.daemon = nil
}

func (h *demoHost) client() *control.Client { return control.NewClient(h.socket) }

// btns runs a command of this program against the daemon of h.
func (h *demoHost) btns(ctx context.Context, args ...string) (string, error) {
	exe, err := os.Executable()
	if err != nil {
		return "", err
	}
	out, err := exec.CommandContext(ctx, exe, append(args, "--socket", h.socket)...).CombinedOutput()
	return string(out), err
}

func (h *demoHost) tail() string {
	text, err := os.ReadFile(h.log)
	if err != nil {
		return err.Error()
	}
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-30):], []byte("\n")))
}

func (d *demo) showLogs() {
	for _, h := range []*demoHost{d.a, d.b} {
		if h.log != "" {
			d.say("\n-- the end of the log of %s", h.name)
			d.indent(h.tail())
		}
	}
}

// quote shows a command and what it printed.
func (d *demo) quote(h *demoHost, output string, args ...string) {
	d.say("   %s# btns %s", h.name, strings.Join(args, " "))
	d.indent(output)
}

func (d *demo) indent(text string) {
	for line := range strings.Lines(strings.TrimSpace(text)) {
		d.say("     %s", strings.TrimRight(line, "\n"))
	}
}

func ip(ctx context.Context, args ...string) error {
	if out, err := exec.CommandContext(ctx, "ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}
