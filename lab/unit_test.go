//go:build lab

package lab

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/lab/netlab"
)

// unit is packaging/systemd/btns.service: the values of each key, in order.
func unit(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(netlab.Root(), "packaging", "systemd", "btns.service"))
	if err != nil {
		t.Fatal(err)
	}
	values := map[string][]string{}
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(key, "#") {
			values[key] = append(values[key], strings.Fields(value)...)
		}
	}
	return values
}

// confined is what runs a command as the unit does, as far as that can be had without systemd: its capabilities, no new
// privileges, and a file system that cannot be written but for the lab's directory, which stands for StateDirectory and
// RuntimeDirectory.
func confined(t *testing.T, l *netlab.Lab, u map[string][]string) []string {
	t.Helper()
	caps := "-all"
	for _, c := range u["CapabilityBoundingSet"] {
		caps += ",+" + strings.ToLower(strings.TrimPrefix(c, "CAP_"))
	}
	if strings.Join(u["NoNewPrivileges"], "") != "yes" || strings.Join(u["ProtectSystem"], "") != "strict" || caps == "-all" {
		t.Fatalf("the unit confines otherwise than this test does: %v", u)
	}
	return []string{
		"sh", "-c", `mount --bind "$0" "$0" && mount -o remount,bind,ro / && exec "$@"`, l.Dir(),
		"setpriv", "--no-new-privs", "--inh-caps=-all", "--bounding-set=" + caps,
	}
}

// The systemd unit as it is shipped: with its capabilities and no more the daemon starts before there is a network, tells
// systemd so, protects traffic, has nothing to complain of, and leaves nothing.
func TestSystemdUnit(t *testing.T) {
	t.Parallel()
	l := netlab.New(t)
	a, b := l.Host("a"), l.Host("b")
	u := unit(t)
	exec := u["ExecStart"]
	if len(exec) != 2 || exec[1] != "up" || strings.Join(u["Type"], "") != "notify" {
		t.Fatalf("the unit runs %v, type %v", exec, u["Type"])
	}
	notify := l.Path("notify")
	systemd, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: notify, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer systemd.Close()
	told := func(want string) {
		t.Helper()
		_ = systemd.SetReadDeadline(time.Now().Add(15 * time.Second))
		buf := make([]byte, 256)
		n, err := systemd.Read(buf)
		if err != nil || string(buf[:n]) != want {
			t.Fatalf("systemd is told %q, %v; want %s", buf[:n], err, want)
		}
	}

	before := a.Snapshot()
	state, socket := l.Path("a.state"), l.Path("a.sock")
	run := append(confined(t, l, u), "env", "NOTIFY_SOCKET="+notify, netlab.Binary)
	daemon := a.Start("unit", append(append(run, exec[1:]...), "--state", state, "--socket", socket)...)
	told("READY=1")

	l.Link(a, netlab.LinkName, b, netlab.LinkName) // the network comes up after it
	a.Addr(netlab.LinkName, netlab.A4+"/24", netlab.A6+"/64")
	b.Addr(netlab.LinkName, netlab.B4+"/24", netlab.B6+"/64")
	b.Btns("")
	ask := func(args ...string) string {
		t.Helper()
		return a.RunFor(30*time.Second, append([]string{netlab.Binary, "--socket", socket}, args...)...)
	}
	for _, peer := range []string{netlab.B4, netlab.B6} {
		ask("wait", peer, "--timeout", "15s")
		if n := a.Ping(peer, 5); n != 5 {
			t.Errorf("%d of 5 pings to %s came back", n, peer)
		}
	}
	if log := daemon.Log(); strings.Contains(log, "level=WARN") || strings.Contains(log, "level=ERROR") {
		t.Errorf("with the capabilities of the unit it complains:\n%s", log)
	}

	daemon.Signal(15)
	told("STOPPING=1")
	if code := daemon.Wait(10 * time.Second); code != 0 {
		t.Errorf("it ends with %d:\n%s", code, daemon.Log())
	}
	a.IP("link", "del", "dev", netlab.LinkName)
	if after := a.Snapshot(); after != before {
		t.Errorf("a is not what it was. Before:\n%s\n\nAfter:\n%s", before, after)
	}
}

// What the unit says is understood by systemd, and lets the daemon make the system calls of its BPF programs.
func TestSystemdUnitIsRight(t *testing.T) {
	t.Parallel()
	l := netlab.New(t)
	h := l.Host("a")
	text, err := os.ReadFile(filepath.Join(netlab.Root(), "packaging", "systemd", "btns.service"))
	if err != nil {
		t.Fatal(err)
	}
	// verify wants the program to be there; everything else is as it is shipped.
	path := l.WriteFile("btns.service", strings.ReplaceAll(string(text), "/usr/local/bin/btns", netlab.Binary))
	if out, err := h.Try(30*time.Second, "systemd-analyze", "verify", "--man=no", path); err != nil || strings.TrimSpace(out) != "" {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	filter := strings.Join(unit(t)["SystemCallFilter"], " ")
	if filter != "@system-service bpf" {
		t.Errorf("SystemCallFilter is %q: bpf is not in @system-service, and is needed", filter)
	}
}
