package netlab

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// Inside calls f on a thread that is in the host's network namespace. A socket that f opens stays there.
func (h *Host) Inside(f func() error) error {
	errs := make(chan error, 1)
	go func() { errs <- inside(h.ns, f) }()
	return <-errs
}

func inside(ns string, f func() error) (err error) {
	runtime.LockOSThread() // for good, if the way back fails: no other goroutine may inherit the namespace
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer home.Close()
	there, err := os.Open(filepath.Join("/run/netns", ns))
	if err != nil {
		return err
	}
	defer there.Close()
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("netlab: enter %s: %w", ns, err)
	}
	err = f()
	// Back, and not just away with the thread: the first thread of a process cannot end, and `ip netns pids` would find us.
	if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
		return errors.Join(err, back)
	}
	runtime.UnlockOSThread()
	return err
}

// Serve answers every HTTP request to an address and port of the host with a text, until the test ends.
func (h *Host) Serve(addr, text string) {
	t := h.lab.t
	t.Helper()
	var l net.Listener
	err := h.Inside(func() (err error) {
		l, err = net.Listen("tcp", addr)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, text)
	})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(l)
	}()
	t.Cleanup(func() {
		_ = srv.Close()
		<-done
	})
}

// Occupy binds a UDP port of the host until t ends, which may be a part of the lab's test.
func (h *Host) Occupy(t testing.TB, port int) {
	t.Helper()
	var c net.PacketConn
	err := h.Inside(func() (err error) {
		c, err = net.ListenPacket("udp", fmt.Sprintf(":%d", port))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
}

// SSHServer starts an sshd that lets root in with a key made for it; the result is the file of that key.
func (h *Host) SSHServer() (key string) {
	t := h.lab.t
	t.Helper()
	key = h.lab.Path(h.Name + ".ssh-user")
	hostKey := h.lab.Path(h.Name + ".ssh-host")
	for _, k := range []string{key, hostKey} {
		h.Run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", k)
	}
	conf := h.lab.WriteFile(h.Name+".sshd", "ListenAddress 0.0.0.0\nListenAddress ::\nHostKey "+hostKey+"\nAuthorizedKeysFile "+key+
		".pub\nPermitRootLogin prohibit-password\nStrictModes no\nUsePAM no\nPidFile none\n")
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // its place to give up privileges in
		t.Fatal(err)
	}
	h.Start("sshd", "/usr/sbin/sshd", "-D", "-e", "-f", conf)
	return key
}

// SSH runs a command on another host over ssh, as its SSHServer lets it.
func (h *Host) SSH(key, to string, args ...string) string {
	h.lab.t.Helper()
	ssh := []string{
		"ssh", "-F", "none", "-i", key, "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
		"-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "root@" + to,
	}
	return h.Run(append(ssh, args...)...)
}
