//go:build linux

package tun

import (
	"net"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/btns-ipsec/btns/dataplane/flow"
)

// Packets with IPv4 options are carried. The options stay in front of ESP (RFC 4303 §3.1.1), in the header of a datagram
// that the plane's socket makes, and go no further: they are for routers, and those that have not done their work yet
// when the packet leaves are not needed by the receiver.
func TestIPv4Options(t *testing.T) {
	t.Parallel()
	a, b := twoNodes(t)
	a.open(Config{})
	b.open(Config{})
	protectBoth(a, b, gcm128)
	l := b.packet(b4 + ":7001")
	for _, tc := range []struct{ name, options string }{
		{"router alert (RFC 2113)", "\x94\x04\x00\x00"},
		{"record route", "\x07\x0b\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00"},
		{"time stamp", "\x44\x0c\x05\x00\x00\x00\x00\x00\x00\x00\x00\x00"},
		{"no operation and end", "\x01\x01\x01\x00"},
	} {
		d := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) (err error) {
			_ = raw.Control(func(fd uintptr) { err = unix.SetsockoptString(int(fd), unix.IPPROTO_IP, unix.IP_OPTIONS, tc.options) })
			return err
		}}
		var err error
		a.in(func() {
			var c net.Conn
			if c, err = d.Dial("udp4", b4+":7001"); err == nil {
				_, err = c.Write([]byte(tc.name))
				_ = c.Close()
			}
		})
		if err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
		buf := make([]byte, 100)
		_ = l.SetReadDeadline(time.Now().Add(3 * time.Second))
		if n, _, err := l.ReadFrom(buf); err != nil || string(buf[:n]) != tc.name {
			t.Errorf("%s: %q, %v; drops: malformed %d", tc.name, buf[:n], err, a.drops(flow.Malformed))
		}
	}
	for _, flags := range []string{"-R", "-T tsonly"} {
		if err := a.pinged("-W 5 " + flags + " " + b4); err != nil {
			t.Error(err)
		}
	}
}
