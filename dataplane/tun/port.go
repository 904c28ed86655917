//go:build linux

package tun

import (
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// spinFor is how long a port is polled before its goroutine sleeps: about the cost of a wake-up.
const spinFor = 20 * time.Microsecond

// port is a non-blocking descriptor that system calls are tried on directly; the runtime's poller is asked only after
// EAGAIN. It may be waited on by one reader and one writer.
type port struct {
	fd  int
	f   *os.File
	rc  syscall.RawConn
	hot bool // the last wait for reading was short: the next one is worth spinning for
}

func newPort(fd int, name string) (*port, error) {
	p := &port{fd: fd, f: os.NewFile(uintptr(fd), name)}
	rc, err := p.f.SyscallConn()
	if err != nil {
		_ = p.f.Close()
		return nil, err
	}
	p.rc = rc
	return p, nil
}

// read waits until try succeeds; the error is that of a closed port.
func (p *port) read(try func(fd uintptr) bool) error {
	if p.hot {
		for t := time.Now(); time.Since(t) < spinFor; {
			if try(uintptr(p.fd)) {
				return nil
			}
			_, _, _ = unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0)
		}
	}
	t := time.Now()
	err := p.rc.Read(try)
	p.hot = time.Since(t) < 2*spinFor
	return err
}

// write waits until try succeeds.
func (p *port) write(try func(fd uintptr) bool) error {
	if try(uintptr(p.fd)) {
		return nil
	}
	return p.rc.Write(try)
}

// stop wakes whoever waits, now and later. Descriptors are closed only when nobody uses them any more: their numbers
// are given out again.
func (p *port) stop() { _ = p.f.SetDeadline(time.Unix(1, 0)) }

func (p *port) close() { _ = p.f.Close() }
