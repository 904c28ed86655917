package netlab

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Binary is the btns that the labs run; TestMain sets it, from Build or from the environment.
var Binary = os.Getenv("BTNS_BIN")

// Build compiles cmd/btns into dir and sets Binary, except where the environment names one.
func Build(dir string) error {
	if Binary != "" {
		return nil
	}
	bin := filepath.Join(dir, "btns")
	cmd := exec.Command("go", "build", "-o", bin, "./cmd/btns")
	cmd.Dir = Root()
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return err
	}
	Binary = bin
	return nil
}

// Btns is the daemon on a host.
type Btns struct {
	host    *Host
	process *Process
	args    []string
}

// Btns starts `btns up` and waits until it answers. Config is the text of a configuration; empty is none.
func (h *Host) Btns(config string, flags ...string) *Btns {
	t := h.lab.t
	t.Helper()
	b := &Btns{host: h}
	b.args = []string{Binary, "up", "--state", h.lab.Path(h.Name + ".state"), "--socket", b.socket()}
	if config != "" {
		b.args = append(b.args, "--config", h.lab.WriteFile(h.Name+".toml", config))
	}
	b.args = append(b.args, flags...)
	b.start()
	t.Cleanup(func() {
		if t.Failed() {
			out, _ := b.Try("peers")
			t.Logf("btns on %s: %s\n%s", h.Name, out, tail(b.Log(), 80))
		}
	})
	return b
}

func (b *Btns) socket() string { return b.host.lab.Path(b.host.Name + ".sock") }

func (b *Btns) start() {
	t := b.host.lab.t
	t.Helper()
	b.process = b.host.Start("btns", b.args...)
	Until(t, 10*time.Second, "btns on "+b.host.Name+" answers", func() error {
		if !b.process.Running() {
			t.Fatalf("btns on %s has ended:\n%s", b.host.Name, tail(b.Log(), 40))
		}
		_, err := b.Try("status")
		return err
	})
}

// Try runs a btns command against the daemon.
func (b *Btns) Try(args ...string) (string, error) {
	return b.host.Try(40*time.Second, append([]string{Binary, "--socket", b.socket()}, args...)...)
}

// Run runs a btns command against the daemon that has to succeed.
func (b *Btns) Run(args ...string) string {
	b.host.lab.t.Helper()
	out, err := b.Try(args...)
	if err != nil {
		b.host.lab.t.Fatalf("on %s: %v", b.host.Name, err)
	}
	return out
}

// Wait returns when traffic to a peer is protected.
func (b *Btns) Wait(peer string) {
	b.host.lab.t.Helper()
	start := time.Now()
	b.Run("wait", peer, "--timeout", "15s")
	b.host.lab.t.Logf("%s protects %s after %v", b.host.Name, peer, time.Since(start).Round(time.Millisecond))
}

// Peer is one line of `btns peers --json`, as far as tests need it.
type Peer struct {
	Addr      string `json:"addr"`
	Name      string `json:"name"`
	Assurance string `json:"assurance"`
	State     string `json:"state"`
	SAs       int    `json:"sas"`
	InBytes   uint64 `json:"in_bytes"`
	OutBytes  uint64 `json:"out_bytes"`
}

// Peers is what the daemon says of its peers.
func (b *Btns) Peers() []Peer {
	t := b.host.lab.t
	t.Helper()
	var peers []Peer
	dec := json.NewDecoder(strings.NewReader(b.Run("peers", "--json")))
	for dec.More() {
		var p Peer
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		peers = append(peers, p)
	}
	return peers
}

// Peer is what the daemon says of one peer.
func (b *Btns) Peer(addr string) Peer {
	b.host.lab.t.Helper()
	for _, p := range b.Peers() {
		if p.Addr == addr {
			return p
		}
	}
	b.host.lab.t.Fatalf("%s has no peer %s", b.host.Name, addr)
	return Peer{}
}

// Name is the daemon's own fingerprint.
func (b *Btns) Name() string {
	t := b.host.lab.t
	t.Helper()
	for _, f := range strings.Fields(b.Run("id")) {
		if strings.HasPrefix(f, "SHA256:") {
			return f
		}
	}
	t.Fatal("btns id shows no fingerprint")
	return ""
}

// Log is what the daemon has logged.
func (b *Btns) Log() string { return b.process.Log() }

// PID is the daemon's process ID.
func (b *Btns) PID() int { return b.process.PID() }

// Stop ends the daemon by SIGTERM; it has to end well.
func (b *Btns) Stop() {
	b.host.lab.t.Helper()
	if code := b.process.Stop(); code != 0 {
		b.host.lab.t.Errorf("btns on %s ends with %d:\n%s", b.host.Name, code, tail(b.Log(), 20))
	}
}

// Crash ends the daemon by SIGKILL.
func (b *Btns) Crash() { b.process.Kill() }

// Signal sends the daemon a signal.
func (b *Btns) Signal(s syscall.Signal) { b.process.Signal(s) }

// Restart starts the daemon again, with the same state.
func (b *Btns) Restart() {
	b.host.lab.t.Helper()
	b.start()
}

// Snapshot is all that a program can have changed on the network of a host: links, rules, routes, nftables, policies and
// states of the kernel's IPsec, and the switches that the TUN plane may turn.
func (h *Host) Snapshot() string {
	h.lab.t.Helper()
	var all []string
	for _, cmd := range []string{
		"ip -br link", "ip -4 rule", "ip -6 rule", "ip -4 route show table all", "ip -6 route show table all proto static",
		"nft list ruleset", "ip xfrm policy", "ip xfrm state",
		"cat /proc/sys/net/ipv4/conf/all/src_valid_mark /proc/sys/net/ipv4/conf/all/rp_filter",
	} {
		all = append(all, "$ "+cmd, h.Run("sh", "-c", cmd))
	}
	return strings.Join(all, "\n")
}

// Main is what TestMain of a lab's package does: it sweeps, builds, and runs the tests.
func Main(m *testing.M) int {
	if os.Geteuid() != 0 {
		_, _ = os.Stderr.WriteString("lab: these tests need root: they make network namespaces\n")
		return 1
	}
	if err := Sweep(); err != nil {
		_, _ = os.Stderr.WriteString(err.Error() + "\n")
		return 1
	}
	dir, err := os.MkdirTemp("", "btns-lab-bin")
	if err != nil {
		_, _ = os.Stderr.WriteString(err.Error() + "\n")
		return 1
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // one test is not root
		_, _ = os.Stderr.WriteString(err.Error() + "\n")
		return 1
	}
	if err := Build(dir); err != nil {
		_, _ = os.Stderr.WriteString("lab: btns does not build: " + err.Error() + "\n")
		return 1
	}
	return m.Run()
}
