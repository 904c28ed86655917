//go:build lab

package lab

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/lab/netlab"
)

const flows = 50

// loaded is two hosts with protection between them, and 50 TCP flows from a to b.
type loaded struct {
	t       *testing.T
	a, b    *netlab.Host
	wire    *netlab.Host
	da, db  *netlab.Btns
	load    *netlab.Process
	spis    string // of the only SA pair
	reloads int
}

func load(t *testing.T, seconds int) *loaded {
	x := &loaded{t: t}
	x.a, x.b, x.wire = netlab.New(t).Pair()
	x.b.Start("iperf3", "iperf3", "-s")
	x.da, x.db = x.a.Btns("# nothing\n"), x.b.Btns("")
	x.da.Wait(netlab.B4)
	if x.spis = x.pairs(); len(strings.Fields(x.spis)) != 1 {
		t.Fatalf("SAs: %q", x.spis)
	}
	x.load = x.a.Start("load", "iperf3", "-c", netlab.B4, "-P", fmt.Sprint(flows), "-t", fmt.Sprint(seconds), "-i", "1")
	netlab.Until(t, 20*time.Second, "50 flows", func() error { return netlab.Contains(x.load.Log(), "[SUM]") })
	return x
}

func (x *loaded) write(text string) { x.a.Lab().WriteFile("a.toml", text) }

// pairs are the inbound SPIs of a.
func (x *loaded) pairs() string {
	x.t.Helper()
	var out []string
	for line := range strings.Lines(x.da.Run("peers", "--long")) {
		if strings.Contains(line, " in, ") {
			out = append(out, strings.Fields(line)[0])
		}
	}
	return strings.Join(out, " ")
}

// kept fails the test unless the SAs are those of the beginning.
func (x *loaded) kept(when string) {
	x.t.Helper()
	if now := x.pairs(); now != x.spis {
		x.t.Errorf("after %s the SAs are %q, before %q", when, now, x.spis)
	}
}

func (x *loaded) hangup() {
	x.t.Helper()
	x.reloads++
	x.da.Signal(syscall.SIGHUP)
	netlab.Until(x.t, 10*time.Second, "reload by signal", func() error {
		if n := strings.Count(x.da.Log(), "msg=reloaded"); n < x.reloads {
			return fmt.Errorf("%d of %d reloads are logged", n, x.reloads)
		}
		return nil
	})
}

// Reloads under 50 TCP flows: what stays allowed goes on under the same SAs, and a file with an error changes nothing.
func TestReloadUnderTraffic(t *testing.T) {
	t.Parallel()
	const seconds = 15
	x := load(t, seconds)
	clear := x.wire.CaptureClear("a")
	for i, text := range []string{
		"[default]\nfallback = \"require\"\n",
		"probe = \"local\"\n[[policy]]\nremote = [\"" + netlab.B4 + "\"]\naction = \"protect\"\nbtns_ok = true\nmin_assurance = \"first-use\"\n",
		"[[peer]]\nname = \"b\"\naddress = \"" + netlab.B4 + "\"\nauth = \"rawkey\"\nkey = \"" + x.db.Name() + "\"\n",
		"# nothing\n",
	} {
		x.write(text)
		if i%2 == 0 {
			x.da.Run("reload")
		} else {
			x.hangup()
		}
		x.kept(fmt.Sprintf("reload %d", i))
	}
	const forbidden = "[[policy]]\nremote = [\"" + netlab.B4 + "\"]\naction = \"discard\"\n"
	for text, says := range map[string]string{
		forbidden + "colour = 1\n":         "a.toml:4:1: policy.colour: there is no such key",
		"plane = \"kernel\"\n" + forbidden: "plane is auto, the file says kernel",
	} {
		x.write(text)
		if out, err := x.da.Try("reload"); err == nil || !strings.Contains(out, says) {
			t.Errorf("a file that cannot be put in force: %v\n%s", err, out)
		}
		x.kept("a refused reload")
	}
	if code := x.load.Wait(3 * seconds * time.Second); code != 0 {
		t.Fatalf("iperf3 ends with %d:\n%s", code, x.load.Log())
	}
	if n := alive(x.load.Log(), seconds); n != flows {
		t.Errorf("%d of %d flows moved something after the last reload", n, flows)
	}
	clear.Stop()
	clear.NothingClear()
}

// A reload that forbids what flows ends it at once, for both directions, until another allows it again.
func TestReloadEndsWhatItForbids(t *testing.T) {
	t.Parallel()
	x := load(t, 60)
	x.write("[[policy]]\nname = \"enemy\"\nremote = [\"" + netlab.B4 + "\"]\naction = \"discard\"\n")
	if out := x.da.Run("reload"); !strings.Contains(out, "enemy") {
		t.Errorf("reload says %q", out)
	}
	after := x.wire.Capture("a", "src host "+netlab.A4+" and not udp port 500 and not (udp port 4500 and udp[8:4] = 0)")
	if err := x.a.Reaches(netlab.B4); err == nil {
		t.Error("a reaches b, whose traffic is discarded")
	}
	if err := x.b.Reaches(netlab.A4); err == nil {
		t.Error("b reaches a, which discards its traffic")
	}
	after.Stop()
	if p := after.Packets("ip"); len(p) > 0 {
		t.Errorf("%d packets still leave, the first:\n%s", len(p), p[0])
	}
	if out := x.da.Run("policy", "test", netlab.A4, netlab.B4); !strings.Contains(out, "enemy (") || !strings.Contains(out, "is dropped") {
		t.Errorf("policy test says\n%s", out)
	}
	x.load.Kill()
	x.write("# nothing\n")
	x.da.Run("reload")
	netlab.Until(t, 40*time.Second, "traffic is allowed again", func() error { return x.a.Reaches(netlab.B4) })
}

// alive is how many streams moved something in the last third of the time. On a busy machine one may starve for a second.
func alive(log string, seconds int) int {
	moved := map[string]bool{}
	for line := range strings.Lines(log) {
		f := strings.Fields(strings.NewReplacer("[", " ", "]", " ").Replace(line))
		if len(f) < 6 || f[2] != "sec" || f[0] == "SUM" || strings.Contains(line, "sender") || strings.Contains(line, "receiver") {
			continue
		}
		var from float64
		if _, err := fmt.Sscanf(f[1], "%g-", &from); err == nil && from >= float64(seconds*2/3) && f[3] != "0.00" {
			moved[f[0]] = true
		}
	}
	return len(moved)
}

// A trial is taken back by the daemon though the command that began it has died with its host's way in: the policy that
// locks out the operator ends by itself.
func TestTrialIsTakenBack(t *testing.T) {
	t.Parallel()
	l := netlab.New(t)
	a, b, _ := l.Pair()
	da := a.Btns("")
	lockout := l.WriteFile("lockout.toml", "[[policy]]\nname = \"all\"\naction = \"discard\"\n")
	if err := b.Reaches(netlab.A4); err != nil {
		t.Fatal(err)
	}
	da.Run("policy", "apply", lockout, "--revert-in", "6s")
	if err := b.Reaches(netlab.A4); err == nil {
		t.Error("the policy on trial is not in force")
	}
	netlab.Until(t, 18*time.Second, "taken back", func() error { return b.Reaches(netlab.A4) })
	if _, err := da.Try("policy", "confirm"); err == nil {
		t.Error("there is still something to confirm")
	}
	da.Run("policy", "apply", lockout, "--revert-in", "3s")
	da.Run("policy", "confirm")
	for end := time.Now().Add(4 * time.Second); time.Now().Before(end); { // the time of the trial, and more
		if err := b.Reaches(netlab.A4); err == nil {
			t.Fatal("a confirmed policy was taken back")
		}
	}
	da.Run("reload")
	if err := b.Reaches(netlab.A4); err != nil {
		t.Errorf("after reload of the daemon's own configuration: %v", err)
	}
}

// A policy that requires protection of everybody lets no packet to a stranger out in clear, not even the first.
func TestRequireHoldsTheFirstPacket(t *testing.T) {
	t.Parallel()
	a, b, wire := netlab.New(t).Pair()
	da := a.Btns("[default]\nfallback = \"require\"\n")
	clear := wire.CaptureClear("a")
	for _, to := range []string{netlab.B4, netlab.B6} {
		if err := a.Reaches(to); err == nil {
			t.Errorf("a reaches %s, which cannot protect", to)
		}
	}
	_ = b.Reaches(netlab.A4)
	clear.Stop()
	if p := clear.Packets("src host " + netlab.A4 + " or src host " + netlab.A6); len(p) > 0 { // b's clear packets are not a's to hold
		t.Errorf("%d packets in clear, the first:\n%s", len(p), p[0])
	}
	b.Btns("")
	da.Wait(netlab.B4)
	da.Wait(netlab.B6)
	for _, to := range []string{netlab.B4, netlab.B6} {
		if n := a.Ping(to, 5); n != 5 {
			t.Errorf("%d of 5 pings to %s came back", n, to)
		}
	}
}
