package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// demoPort is where the hosts of the demo answer, TCP and UDP.
const demoPort = 7007

// inside runs f on a thread that is in a network namespace. Sockets that f makes stay there.
func inside(ns string, f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with this goroutine
		done <- func() error {
			file, err := os.Open(filepath.Join("/run/netns", ns))
			if err != nil {
				return err
			}
			defer file.Close()
			if err := unix.Setns(int(file.Fd()), unix.CLONE_NEWNET); err != nil {
				return fmt.Errorf("enter %s: %w", ns, err)
			}
			return f()
		}()
	}()
	return <-done
}

// echo answers with what it is sent.
type echo struct {
	wg      sync.WaitGroup
	closers []io.Closer
}

func startEcho(h *demoHost) (*echo, error) {
	e := &echo{}
	err := inside(h.ns, func() error {
		var lc net.ListenConfig
		for _, addr := range []string{h.v4, h.v6} {
			at := net.JoinHostPort(addr, fmt.Sprint(demoPort))
			l, err := lc.Listen(context.Background(), "tcp", at)
			if err != nil {
				return err
			}
			e.closers = append(e.closers, l)
			e.wg.Go(func() { e.serveTCP(l) })
			p, err := lc.ListenPacket(context.Background(), "udp", at)
			if err != nil {
				return err
			}
			e.closers = append(e.closers, p)
			e.wg.Go(func() { serveUDP(p) })
		}
		return nil
	})
	if err != nil {
		e.close()
		return nil, err
	}
	return e, nil
}

func (e *echo) serveTCP(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		e.wg.Go(func() {
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(20 * time.Second))
			_, _ = io.Copy(c, c) // the other end notices what is missing
		})
	}
}

func serveUDP(p net.PacketConn) {
	b := make([]byte, 2048)
	for {
		n, from, err := p.ReadFrom(b)
		if err != nil {
			return
		}
		_, _ = p.WriteTo(b[:n], from) // the other end asks again
	}
}

func (e *echo) close() {
	for _, c := range e.closers {
		_ = c.Close()
	}
	e.wg.Wait()
}

// talk sends the payload from a to b and back: TCP, UDP and ping, over IPv4 and IPv6.
func (d *demo) talk(ctx context.Context) error {
	var errs []error
	for _, addr := range []string{d.b.v4, d.b.v6} {
		for _, try := range []struct {
			name string
			do   func(context.Context, string, time.Duration) error
		}{{"TCP", d.tryTCP}, {"UDP", d.tryUDP}, {"ping", d.tryPing}} {
			if err := try.do(ctx, addr, 5*time.Second); err != nil {
				errs = append(errs, fmt.Errorf("%s to %s: %w", try.name, addr, err))
			}
		}
	}
	return errors.Join(errs...)
}

// tryTCP moves 256 KiB there and back.
func (d *demo) tryTCP(ctx context.Context, addr string, timeout time.Duration) error {
	var c net.Conn
	err := inside(d.a.ns, func() (err error) {
		dialer := net.Dialer{Timeout: timeout}
		c, err = dialer.DialContext(ctx, "tcp", net.JoinHostPort(addr, fmt.Sprint(demoPort)))
		return err
	})
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(timeout))
	sent := bytes.Repeat([]byte(payload+"\n"), 256<<10/(len(payload)+1))
	wrote := make(chan error, 1)
	go func() {
		_, err := c.Write(sent)
		wrote <- err
	}()
	got := make([]byte, len(sent))
	if _, err := io.ReadFull(c, got); err != nil {
		return errors.Join(err, c.Close(), <-wrote)
	}
	if err := <-wrote; err != nil {
		return err
	}
	if !bytes.Equal(got, sent) {
		return errors.New("what came back is not what was sent")
	}
	return nil
}

func (d *demo) tryUDP(ctx context.Context, addr string, timeout time.Duration) error {
	var c net.Conn
	err := inside(d.a.ns, func() (err error) {
		var dialer net.Dialer
		c, err = dialer.DialContext(ctx, "udp", net.JoinHostPort(addr, fmt.Sprint(demoPort)))
		return err
	})
	if err != nil {
		return err
	}
	defer c.Close()
	return askAgain(c, timeout, []byte(payload), func(answer []byte) bool { return string(answer) == payload })
}

// tryPing sends an echo request by hand, so that it carries the payload and the demo needs no other program.
func (d *demo) tryPing(ctx context.Context, addr string, timeout time.Duration) error {
	network, request, reply := "ip4:icmp", byte(8), byte(0)
	if netip.MustParseAddr(addr).Is6() {
		network, request, reply = "ip6:ipv6-icmp", 128, 129
	}
	var c net.Conn
	err := inside(d.a.ns, func() (err error) {
		var dialer net.Dialer
		c, err = dialer.DialContext(ctx, network, addr)
		return err
	})
	if err != nil {
		return err
	}
	defer c.Close()
	m := append([]byte{request, 0, 0, 0, 0x62, 0x74, 0, 1}, payload...)
	if request == 8 { // for IPv6 the kernel does it (RFC 3542 §3.1)
		binary.BigEndian.PutUint16(m[2:], checksum(m))
	}
	return askAgain(c, timeout, m, func(answer []byte) bool {
		if request == 8 && len(answer) >= 20 { // the header comes along
			answer = answer[min(len(answer), int(answer[0]&15)*4):]
		}
		return len(answer) >= 8 && answer[0] == reply && strings.HasSuffix(string(answer), payload)
	})
}

// askAgain sends a datagram every half second until the right answer comes.
func askAgain(c net.Conn, timeout time.Duration, ask []byte, right func([]byte) bool) error {
	end := time.Now().Add(timeout)
	b := make([]byte, 2048)
	for time.Now().Before(end) {
		if _, err := c.Write(ask); err != nil {
			return err
		}
		_ = c.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
		for {
			n, err := c.Read(b)
			if err == nil && right(b[:n]) {
				return nil
			}
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				return err
			}
		}
	}
	return errors.New("no answer")
}

// checksum is that of the Internet (RFC 1071).
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	if len(b)%2 == 1 {
		sum += uint32(b[len(b)-1]) << 8
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}
