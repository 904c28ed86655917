//go:build linux

package tun

import (
	"bytes"
	"crypto/sha256"
	"io"
	"net"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/dataplane"
	"github.com/btns-ipsec/btns/protect"
)

// transfer sends n octets by TCP from one node to another and compares what arrived.
func transfer(t testing.TB, from, to *node, addr string, n int) (took time.Duration) {
	t.Helper()
	l := to.listen("tcp", net.JoinHostPort(addr, "7000"))
	defer l.Close()
	data := bytes.Repeat([]byte("every octet counts. "), n/20+1)[:n]
	got := make(chan [32]byte, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		h := sha256.New()
		_, _ = io.Copy(h, c)
		got <- [32]byte(h.Sum(nil))
	}()
	c, err := from.dial("tcp", net.JoinHostPort(addr, "7000"))
	if err != nil {
		t.Fatalf("%s to %s: %v", from.name, addr, err)
	}
	begin := time.Now()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := c.Write(data); err != nil {
		t.Fatalf("%s to %s: %v", from.name, addr, err)
	}
	_ = c.Close()
	select {
	case h := <-got:
		if h != sha256.Sum256(data) {
			t.Fatalf("%s to %s: %d octets arrived changed", from.name, addr, n)
		}
	case <-time.After(21 * time.Second):
		t.Fatalf("%s to %s: nothing arrived", from.name, addr)
	}
	return time.Since(begin)
}

// echo sends datagrams and waits for each to come back.
func echo(t testing.TB, from, to *node, addr string, sizes ...int) {
	t.Helper()
	s := to.packet(net.JoinHostPort(addr, "7001"))
	go func() {
		b := make([]byte, 1<<16)
		for {
			n, a, err := s.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = s.WriteTo(b[:n], a)
		}
	}()
	c, err := from.dial("udp", net.JoinHostPort(addr, "7001"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, n := range sizes {
		want := bytes.Repeat([]byte{byte(n), 7}, n/2+1)[:n]
		got := make([]byte, 1<<16)
		ok := false
		for range 3 { // the first may learn the path
			_ = c.SetDeadline(time.Now().Add(time.Second))
			if _, err := c.Write(want); err != nil {
				continue
			}
			if m, err := c.Read(got); err == nil && bytes.Equal(got[:m], want) {
				ok = true
				break
			}
		}
		if !ok {
			t.Fatalf("%s to %s: datagram of %d octets did not come back", from.name, addr, n)
		}
	}
}

// Between two hosts everything passes, in both families, modes and forms of ESP.
func TestTraffic(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		suite   protect.Suite
		options []pairOption
	}{
		{"transport in UDP, AES-GCM", gcm128, nil},
		{"transport as protocol 50, ChaCha20", chacha, []pairOption{raw}},
		{"tunnel in UDP, AES-GCM", gcm128, []pairOption{tunnel}},
		{"tunnel as protocol 50, AES-CBC", cbc, []pairOption{raw, tunnel}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a, b := twoNodes(t)
			a.open(Config{})
			b.open(Config{})
			protectBoth(a, b, c.suite, c.options...)
			defer func() {
				if t.Failed() {
					t.Logf("a: %+v\nb: %+v\n%s", a.seen(), b.seen(), b.sh("nft list table inet btns | grep counter; nstat -as | grep -i 'drop\\|err\\|disc\\|NoRoute'; ip -s link"))
				}
			}()
			for _, addr := range []string{b4, b6} {
				a.mustPing(addr)
				transfer(t, a, b, addr, 8<<20)
				echo(t, a, b, addr, 1, 100, 1400, 9000, 60000)
			}
			b.mustPing(a4)
			transfer(t, b, a, a6, 1<<20)
			for _, n := range []*node{a, b} {
				for _, u := range n.plane.Counters(nil) {
					if u.PacketsIn == 0 || u.PacketsOut == 0 || u.Drops != 0 {
						t.Errorf("%s: %+v", n.name, u)
					}
				}
				n.await("Carried", func(e dataplane.Event) bool { return e == dataplane.Carried{ID: 2} })
			}
		})
	}
}
