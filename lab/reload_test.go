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

// Reloads under 50 TCP flows: what stays allowed goes on under the same SAs, a file with an error changes nothing, and what
// a file forbids ends at once, for both directions, until another allows it again.
func TestReloadUnderTraffic(t *testing.T) {
	t.Parallel()
	l := netlab.New(t)
	a, b, wire := l.Pair()
	b.Start("iperf3", "iperf3", "-s")
	da, db := a.Btns("# nothing\n"), b.Btns("")
	da.Wait(netlab.B4)
	write := func(text string) { l.WriteFile("a.toml", text) }
	spis := func() string { return da.Run("peers", "--long") }
	children := func(text string) (out []string) {
		for _, w := range strings.Split(text, "\n") {
			if strings.Contains(w, " in, ") {
				out = append(out, strings.Fields(w)[0])
			}
		}
		return out
	}
	before := children(spis())
	if len(before) != 1 {
		t.Fatalf("SAs: %q", before)
	}

	const seconds = 15
	load := a.Start("load", "iperf3", "-c", netlab.B4, "-P", fmt.Sprint(flows), "-t", fmt.Sprint(seconds), "-i", "1")
	netlab.Until(t, 20*time.Second, "50 flows", func() error { return netlab.Contains(load.Log(), "[SUM]") })
	clear := wire.CaptureClear("a")
	for i, text := range []string{
		"[default]\nfallback = \"require\"\n",
		"probe = \"local\"\n[[policy]]\nremote = [\"" + netlab.B4 + "\"]\naction = \"protect\"\nbtns_ok = true\nmin_assurance = \"first-use\"\n",
		"[[peer]]\nname = \"b\"\naddress = \"" + netlab.B4 + "\"\nauth = \"rawkey\"\nkey = \"" + db.Name() + "\"\n",
		"# nothing\n",
	} {
		write(text)
		if i%2 == 0 {
			da.Run("reload")
		} else {
			da.Signal(syscall.SIGHUP)
			netlab.Until(t, 10*time.Second, "reload by signal", func() error {
				if n := strings.Count(da.Log(), "msg=reloaded"); n < (i+1)/2 {
					return fmt.Errorf("%d of %d reloads are logged", n, (i+1)/2)
				}
				return nil
			})
		}
		if now := children(spis()); strings.Join(now, " ") != strings.Join(before, " ") {
			t.Errorf("after reload %d the SAs are %q, before %q", i, now, before)
		}
	}
	write("[[policy]]\nremote = [\"" + netlab.B4 + "\"]\naction = \"discard\"\ncolour = 1\n")
	if out, err := da.Try("reload"); err == nil || !strings.Contains(out, "a.toml:4:1: policy.colour: there is no such key") {
		t.Errorf("a broken file: %v\n%s", err, out)
	}
	write("plane = \"kernel\"\n[[policy]]\nremote = [\"" + netlab.B4 + "\"]\naction = \"discard\"\n")
	if out, err := da.Try("reload"); err == nil || !strings.Contains(out, "plane is auto, the file says kernel") {
		t.Errorf("a file with another plane: %v\n%s", err, out)
	}
	if now := children(spis()); strings.Join(now, " ") != strings.Join(before, " ") {
		t.Errorf("after refused reloads the SAs are %q, before %q", now, before)
	}
	if code := load.Wait(3 * seconds * time.Second); code != 0 {
		t.Fatalf("iperf3 ends with %d:\n%s", code, load.Log())
	}
	if n := alive(load.Log(), seconds); n != flows {
		t.Errorf("%d of %d flows moved something after the last reload", n, flows)
	}
	clear.Stop()
	clear.NothingClear()

	// And now it is forbidden.
	load = a.Start("load2", "iperf3", "-c", netlab.B4, "-P", fmt.Sprint(flows), "-t", "60", "-i", "1")
	netlab.Until(t, 20*time.Second, "50 flows", func() error { return netlab.Contains(load.Log(), "[SUM]") })
	write("[[policy]]\nname = \"enemy\"\nremote = [\"" + netlab.B4 + "\"]\naction = \"discard\"\n")
	if out := da.Run("reload"); !strings.Contains(out, "enemy") {
		t.Errorf("reload says %q", out)
	}
	after := wire.Capture("a", "src host "+netlab.A4+" and not udp port 500 and not (udp port 4500 and udp[8:4] = 0)")
	if err := a.Reaches(netlab.B4); err == nil {
		t.Error("a reaches b, whose traffic is discarded")
	}
	if err := b.Reaches(netlab.A4); err == nil {
		t.Error("b reaches a, which discards its traffic")
	}
	after.Stop()
	if p := after.Packets("ip"); len(p) > 0 {
		t.Errorf("%d packets still leave, the first:\n%s", len(p), p[0])
	}
	if out := da.Run("policy", "test", netlab.A4, netlab.B4); !strings.Contains(out, "enemy (") || !strings.Contains(out, "is dropped") {
		t.Errorf("policy test says\n%s", out)
	}
	load.Kill()

	write("# nothing\n")
	da.Run("reload")
	netlab.Until(t, 40*time.Second, "traffic is allowed again", func() error { return a.Reaches(netlab.B4) })
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
	time.Sleep(4 * time.Second) // the time of the trial, and more
	if err := b.Reaches(netlab.A4); err == nil {
		t.Error("a confirmed policy was taken back")
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
