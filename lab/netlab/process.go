package netlab

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// Process is something that runs on a host until it is stopped, at the latest by the end of the test.
type Process struct {
	host *Host
	name string
	cmd  *exec.Cmd
	log  string
	done chan struct{}
	err  error
}

// Start starts a command on the host. What it prints goes to Log.
func (h *Host) Start(name string, args ...string) *Process {
	h.lab.t.Helper()
	p := &Process{host: h, name: name, done: make(chan struct{})}
	p.log = h.lab.Path(h.Name + "." + name + ".log")
	f, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		h.lab.t.Fatal(err)
	}
	defer f.Close()
	p.cmd = exec.Command("ip", append([]string{"netns", "exec", h.ns}, args...)...)
	p.cmd.Stdout, p.cmd.Stderr = f, f
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		h.lab.t.Fatal(err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	h.lab.t.Cleanup(func() { p.Stop() })
	return p
}

// Log is what the process has printed so far.
func (p *Process) Log() string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// PID is the process ID.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Running says whether the process has not ended yet.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Signal sends the process a signal.
func (p *Process) Signal(s syscall.Signal) {
	if p.Running() {
		_ = syscall.Kill(-p.cmd.Process.Pid, s)
	}
}

// Wait waits for the end and returns the exit status.
func (p *Process) Wait(timeout time.Duration) int {
	p.host.lab.t.Helper()
	select {
	case <-p.done:
	case <-time.After(timeout):
		p.host.lab.t.Errorf("%s on %s does not end in %v\n%s", p.name, p.host.Name, timeout, tail(p.Log(), 40))
		p.Kill()
	}
	var exit *exec.ExitError
	if errors.As(p.err, &exit) {
		return exit.ExitCode()
	}
	return 0
}

// Stop ends the process as an operator would, and returns its exit status.
func (p *Process) Stop() int {
	p.host.lab.t.Helper()
	p.Signal(syscall.SIGTERM)
	return p.Wait(10 * time.Second)
}

// Kill ends the process without giving it a chance to clean up.
func (p *Process) Kill() {
	p.Signal(syscall.SIGKILL)
	<-p.done
}

// tail is the last n lines of s.
func tail(s string, n int) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	return strings.Join(lines, "\n")
}
