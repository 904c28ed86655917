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
	to   string // the address of b to talk to
	pids []int  // of the programs that carry the packets, one an end
}

// link is how the two hosts are joined.
type link struct {
	whole bool // every packet goes by itself: no segmentation offload
}

func (l link) make(t *testing.T) (a, b *netlab.Host) {
	t.Helper()
	a, b = netlab.New(t).Direct()
	if l.whole {
		for _, h := range []*netlab.Host{a, b} {
			h.IP("link", "set", "dev", netlab.LinkName, "gso_max_segs", "1")
		}
	}
	return a, b
}

func plain(t *testing.T, l link) variant {
	a, b := l.make(t)
	return variant{a: a, b: b, to: netlab.B4}
}

func btns(t *testing.T, l link) variant { return btnsWith(t, l, "") }

func btnsChaCha(t *testing.T, l link) variant {
	return btnsWith(t, l, "[default]\nesp = [\"chacha20poly1305\"]\n")
}

func btnsWith(t *testing.T, l link, config string) variant {
	a, b := l.make(t)
	da, db := a.Btns(config), b.Btns(config)
	da.Wait(netlab.B4)
	return variant{a: a, b: b, to: netlab.B4, pids: []int{da.PID(), db.PID()}}
}

func strongSwan(t *testing.T, l link) variant {
	a, b := l.make(t)
	a.Lab().Inner(a, b)
	c := a.Lab().Case("rawkey")
	sb, sa := b.StrongSwan(c.B), a.StrongSwan(c.A)
	if err := sa.Initiate("net"); err != nil {
		t.Fatal(err)
	}
	// What has no tunnel policy of its own takes the address that the policy covers.
	a.IP("route", "replace", netlab.BIn4, "via", netlab.B4, "src", netlab.AIn4)
	return variant{a: a, b: b, to: netlab.BIn4, pids: []int{sa.PID(), sb.PID()}}
}

// wireguardGo runs the wireguard-go of tools/go.mod on both ends.
func wireguardGo(t *testing.T, l link) variant {
	a, b := l.make(t)
	bin := a.Lab().Path("wireguard-go")
	build := exec.Command("go", "build", "-modfile=tools/go.mod", "-o", bin, "golang.zx2c4.com/wireguard")
	build.Dir = netlab.Root()
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
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
	return variant{a: a, b: b, to: "10.98.0.2", pids: []int{ends[0].PID(), ends[1].PID()}}
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
