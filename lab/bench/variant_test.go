//go:build bench

package bench

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/lab/netlab"
)

// variant is a pair of hosts that are joined in one way or another.
type variant struct {
	name string
	a, b *netlab.Host
	to   string               // the address of b to talk to
	rss  func(*testing.T) int // KiB of the larger end, nil where nothing runs
}

func plain(t *testing.T) variant {
	a, b := netlab.New(t).Direct()
	return variant{a: a, b: b, to: netlab.B4}
}

func btns(t *testing.T) variant {
	a, b := netlab.New(t).Direct()
	da, db := a.Btns(""), b.Btns("")
	da.Wait(netlab.B4)
	return variant{a: a, b: b, to: netlab.B4, rss: func(t *testing.T) int {
		return max(residentKiB(t, da.PID()), residentKiB(t, db.PID()))
	}}
}

func strongSwan(t *testing.T) variant {
	l := netlab.New(t)
	a, b := l.Direct()
	l.Inner(a, b)
	c := l.Case("rawkey")
	sb, sa := b.StrongSwan(c.B), a.StrongSwan(c.A)
	if err := sa.Initiate("net"); err != nil {
		t.Fatal(err)
	}
	// What has no tunnel policy of its own takes the address that the policy covers.
	a.IP("route", "replace", netlab.BIn4, "via", netlab.B4, "src", netlab.AIn4)
	return variant{a: a, b: b, to: netlab.BIn4, rss: func(t *testing.T) int {
		return max(residentKiB(t, sa.PID()), residentKiB(t, sb.PID()))
	}}
}

// wireguardGo runs the wireguard-go of tools/go.mod on both ends.
func wireguardGo(t *testing.T) variant {
	l := netlab.New(t)
	bin := l.Path("wireguard-go")
	build := exec.Command("go", "build", "-modfile=tools/go.mod", "-o", bin, "golang.zx2c4.com/wireguard")
	build.Dir = netlab.Root()
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	a, b := l.Direct()
	var keys [2]*ecdh.PrivateKey
	for i := range keys {
		k, err := ecdh.X25519().GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		keys[i] = k
	}
	var ends [2]*netlab.Process
	for i, h := range []*netlab.Host{a, b} {
		dev := "wg" + h.Name + strconv.Itoa(os.Getpid())
		ends[i] = h.Start("wireguard-go", bin, "-f", dev)
		peer := []string{netlab.B4, netlab.A4}[i]
		configure(t, dev, fmt.Sprintf("set=1\nprivate_key=%s\nlisten_port=51820\npublic_key=%s\nendpoint=%s:51820\nallowed_ip=0.0.0.0/0\n\n",
			hex.EncodeToString(keys[i].Bytes()), hex.EncodeToString(keys[1-i].PublicKey().Bytes()), peer))
		h.IP("addr", "add", fmt.Sprintf("10.98.0.%d/24", i+1), "dev", dev)
		h.IP("link", "set", dev, "up")
	}
	netlab.Until(t, 10*time.Second, "wireguard-go carries packets", func() error { return a.Reaches("10.98.0.2") })
	return variant{a: a, b: b, to: "10.98.0.2", rss: func(t *testing.T) int {
		return max(residentKiB(t, ends[0].PID()), residentKiB(t, ends[1].PID()))
	}}
}

// configure speaks wireguard-go's own control protocol.
func configure(t *testing.T, dev, commands string) {
	t.Helper()
	var c net.Conn
	netlab.Until(t, 5*time.Second, "wireguard-go answers", func() (err error) {
		c, err = net.Dial("unix", filepath.Join("/var/run/wireguard", dev+".sock"))
		return err
	})
	defer c.Close()
	if _, err := c.Write([]byte(commands)); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 256)
	n, err := c.Read(answer)
	if err != nil || !strings.HasPrefix(string(answer[:n]), "errno=0") {
		t.Fatalf("wireguard-go says %q, %v", answer[:n], err)
	}
}

func residentKiB(t *testing.T, pid int) int {
	t.Helper()
	for line := range strings.Lines(netlab.ReadFile(t, fmt.Sprintf("/proc/%d/status", pid))) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("process %d has no VmRSS", pid)
	return 0
}
