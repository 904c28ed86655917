package netlab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// prefix begins the name of every namespace of ours; the process that made it follows.
const prefix = "btl"

// Lab is one test's network.
type Lab struct {
	t   testing.TB
	id  string
	dir string
}

var labs atomic.Int32

// New starts an empty network that ends with the test.
func New(t testing.TB) *Lab {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("the lab needs root: it makes network namespaces")
	}
	l := &Lab{t: t, id: fmt.Sprintf("%s%d-%d", prefix, os.Getpid(), labs.Add(1))}
	// Not t.TempDir: the name of a test would make the path of a Unix socket too long.
	l.dir = filepath.Join(os.TempDir(), l.id)
	if err := os.Mkdir(l.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(l.dir); err != nil {
			t.Error(err)
		}
	})
	return l
}

// Dir is where files of the lab go.
func (l *Lab) Dir() string { return l.dir }

// Path is a file in the lab's directory.
func (l *Lab) Path(name string) string { return filepath.Join(l.dir, name) }

// WriteFile writes a file in the lab's directory and returns its path.
func (l *Lab) WriteFile(name, content string) string {
	l.t.Helper()
	path := l.Path(name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		l.t.Fatal(err)
	}
	return path
}

// Sweep removes what a killed run has left: namespaces of processes that are no more, and what runs in them.
func Sweep() error {
	out, err := command(10*time.Second, "ip", "netns", "list")
	if err != nil {
		return err
	}
	for line := range strings.Lines(out) {
		name, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		rest, ours := strings.CutPrefix(name, prefix)
		pid, _, dash := strings.Cut(rest, "-")
		n, err := strconv.Atoi(pid)
		if !ours || !dash || err != nil || syscall.Kill(n, 0) == nil {
			continue
		}
		if err := deleteNamespace(name); err != nil {
			return err
		}
		lab := strings.Join(strings.SplitN(name, "-", 3)[:2], "-")
		if err := os.RemoveAll(filepath.Join(os.TempDir(), lab)); err != nil {
			return err
		}
	}
	return nil
}

// deleteNamespace kills what still runs in a namespace, and removes it.
func deleteNamespace(name string) error {
	deadline := time.Now().Add(10 * time.Second)
	for {
		out, err := command(10*time.Second, "ip", "netns", "pids", name)
		if err != nil {
			return err
		}
		pids := strings.Fields(out)
		if len(pids) == 0 {
			break
		}
		for _, p := range pids {
			if n, err := strconv.Atoi(p); err == nil {
				_ = syscall.Kill(n, syscall.SIGKILL)
			}
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("netlab: %v in %s do not die", pids, name)
		}
		time.Sleep(20 * time.Millisecond)
	}
	_, err := command(10*time.Second, "ip", "netns", "del", name)
	return err
}

// command runs a command on the machine itself.
func command(timeout time.Duration, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = time.Second // a child that keeps the pipe open must not hold us
	out, err := cmd.CombinedOutput()
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return string(out), fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// Root is the root of the repository.
func Root() string {
	dir, err := os.Getwd()
	if err != nil {
		return "."
	}
	for d := dir; ; d = filepath.Dir(d) {
		if _, err := os.Stat(filepath.Join(d, "go.mod")); err == nil {
			return d
		}
		if d == filepath.Dir(d) {
			return dir
		}
	}
}
