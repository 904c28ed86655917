package netlab

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Case is one of lab/cases with fresh keys: A and B are directories as swanctl wants them.
type Case struct {
	Name string
	A, B string
}

// Case makes a strongSwan case; options are those of lab/peers/make-case.sh (key=, ike=, esp=).
func (l *Lab) Case(name string, options ...string) Case {
	l.t.Helper()
	out := l.Path("case." + name)
	args := append([]string{name, out}, options...)
	if _, err := command(60*time.Second, script("make-case.sh"), args...); err != nil {
		l.t.Fatal(err)
	}
	return Case{Name: name, A: filepath.Join(out, "a"), B: filepath.Join(out, "b")}
}

func script(name string) string { return filepath.Join(Root(), "lab", "peers", name) }

// StrongSwan is a strongSwan daemon on a host, with ESP in user space.
type StrongSwan struct {
	host *Host
}

// StrongSwan starts the daemon with the configuration in dir; it ends with the test. If the test has failed by then, the
// log is printed.
func (h *Host) StrongSwan(dir string) *StrongSwan {
	t := h.lab.t
	t.Helper()
	s := &StrongSwan{host: h}
	if _, err := s.script("start", dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("strongSwan on %s:\n%s", h.Name, tail(s.Log(), 80))
		}
		s.Stop()
	})
	return s
}

// script runs the script with the state of every lab in its own directory.
func (s *StrongSwan) script(verb string, args ...string) (string, error) {
	return s.host.script("strongswan-host.sh", verb, args...)
}

func (h *Host) script(name, verb string, args ...string) (string, error) {
	all := append([]string{"LAB_RUN=" + h.lab.dir, "FAKE_KERNEL=1", script(name), verb, h.ns}, args...)
	return command(60*time.Second, "env", all...)
}

// Log is what the daemon has logged.
func (s *StrongSwan) Log() string {
	out, err := s.script("log")
	if err != nil {
		return err.Error()
	}
	return out
}

// PID is the daemon's process ID.
func (s *StrongSwan) PID() int {
	s.host.lab.t.Helper()
	out, err := s.script("pid")
	if err != nil {
		s.host.lab.t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(out))
	if err != nil {
		s.host.lab.t.Fatal(err)
	}
	return pid
}

// Kill ends the daemon without a farewell.
func (s *StrongSwan) Kill() {
	s.host.lab.t.Helper()
	if err := syscall.Kill(s.PID(), syscall.SIGKILL); err != nil {
		s.host.lab.t.Fatal(err)
	}
}

// Stop ends the daemon.
func (s *StrongSwan) Stop() {
	s.host.lab.t.Helper()
	if _, err := s.script("stop"); err != nil {
		s.host.lab.t.Error(err)
	}
}

// Initiate brings up a child of the case.
func (s *StrongSwan) Initiate(child string) error {
	out, err := s.script("swanctl", "--initiate", "--child", child, "--timeout", "15")
	if err != nil {
		return fmt.Errorf("strongSwan does not bring up %s: %w\n%s", child, err, tail(out, 20))
	}
	return nil
}

// Terminate takes an IKE SA down with all its children.
func (s *StrongSwan) Terminate(ike string) error {
	_, err := s.script("swanctl", "--terminate", "--ike", ike, "--timeout", "10")
	return err
}

// SAs is the daemon's own listing.
func (s *StrongSwan) SAs() string {
	s.host.lab.t.Helper()
	out, err := s.script("swanctl", "--list-sas")
	if err != nil {
		s.host.lab.t.Fatal(err)
	}
	return out
}

var counters = regexp.MustCompile(`(?m)^\s*(in|out) .*?(\d+) packets`)

// Carried is how many packets the child SAs that live have carried, in and out.
func (s *StrongSwan) Carried() (in, out int) {
	s.host.lab.t.Helper()
	for _, m := range counters.FindAllStringSubmatch(s.SAs(), -1) {
		n, _ := strconv.Atoi(m[2])
		if m[1] == "in" {
			in += n
		} else {
			out += n
		}
	}
	return in, out
}

// Established waits until the daemon has an IKE SA and a child SA.
func (s *StrongSwan) Established(deadline time.Duration) {
	t := s.host.lab.t
	t.Helper()
	Until(t, deadline, "strongSwan on "+s.host.Name+" has its SAs", func() error {
		sas := s.SAs()
		if strings.Contains(sas, "ESTABLISHED") && strings.Contains(sas, "INSTALLED") {
			return nil
		}
		return fmt.Errorf("netlab: it has\n%s", tail(sas, 20))
	})
}

// ReadFile returns a file, such as a key of a case.
func ReadFile(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
