//go:build linux

package xfrm

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/btns-ipsec/btns/selector"
)

// Config says which packets are watched.
type Config struct {
	// Exempt is a bit of the packet mark; packets that have it are not watched. 0: all are.
	Exempt uint32
	// ReqID tells the policies apart from others; 0 is the default of the package.
	ReqID uint32
}

// ReqID is the default request ID. Policies without one belong to others.
const ReqID = 0x62746e73

// Priorities are so low that every policy of others comes first. They tell the exemptions that are ours.
const (
	priorityExempt = 0x7ffb7000
	priorityUse    = 0x7ffb7001
)

// exempt is never asked for: it stays on this host or on the link.
var exempt = [...]netip.Prefix{
	netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("224.0.0.0/4"),
	netip.MustParsePrefix("255.255.255.255/32"), netip.MustParsePrefix("0.0.0.0/32"),
	netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("fe80::/10"), netip.MustParsePrefix("ff00::/8"), netip.MustParsePrefix("::/128"),
}

var (
	all4 = netip.MustParsePrefix("0.0.0.0/0")
	all6 = netip.MustParsePrefix("::/0")
)

// What can be missing on the machine.
var (
	ErrUnsupported = errors.New("xfrm: not in this kernel")
	ErrPermission  = errors.New("xfrm: not permitted")
)

// Watcher listens for packets that leave.
type Watcher struct {
	cfg  Config
	conn *netlink.Conn // for commands
	from *netlink.Conn // for acquires
	work sync.WaitGroup
	once sync.Once
	err  error
}

// Listen installs the policies, in place of those of a process that left them, and calls sink for every flow that the
// kernel asks protection for: one per pair of addresses in net.core.xfrm_acq_expires seconds (30), or sooner after
// [Watcher.Renew]. sink must not block.
func Listen(cfg Config, sink func(selector.Flow)) (*Watcher, error) {
	w, err := open(cfg)
	if err != nil {
		return nil, err
	}
	if w.from, err = dial(groupAcquire); err == nil {
		if err = w.clean(); err == nil {
			err = w.install()
		}
	}
	if err != nil {
		_ = w.clean()
		w.shut()
		return nil, err
	}
	w.work.Add(1)
	go w.listen(sink)
	return w, nil
}

// Cleanup removes the policies that a Watcher with that configuration left, and the larval states of its acquires.
func Cleanup(cfg Config) error {
	w, err := open(cfg)
	if errors.Is(err, ErrUnsupported) {
		return nil
	}
	if err != nil {
		return err
	}
	defer w.shut()
	return w.clean()
}

func open(cfg Config) (*Watcher, error) {
	if cfg.ReqID == 0 {
		cfg.ReqID = ReqID
	}
	conn, err := dial(0)
	if err != nil {
		return nil, err
	}
	return &Watcher{cfg: cfg, conn: conn}, nil
}

func dial(groups uint32) (*netlink.Conn, error) {
	c, err := netlink.Dial(unix.NETLINK_XFRM, &netlink.Config{Groups: groups})
	switch {
	case errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.EAFNOSUPPORT):
		return nil, fmt.Errorf("%w: %w", ErrUnsupported, err)
	case errors.Is(err, os.ErrPermission):
		return nil, fmt.Errorf("%w: %w", ErrPermission, err)
	case err != nil:
		return nil, fmt.Errorf("xfrm: %w", err)
	}
	return c, nil
}

func (w *Watcher) shut() {
	_ = w.conn.Close()
	if w.from != nil {
		_ = w.from.Close()
	}
}

// Close removes the policies and the larval states of their acquires, and ends the watch.
func (w *Watcher) Close() error {
	w.once.Do(func() {
		w.err = w.clean()
		_ = w.from.SetReadDeadline(time.Unix(1, 0))
		w.work.Wait()
		w.shut()
	})
	return w.err
}

func (w *Watcher) command(typ uint16, flags netlink.HeaderFlags, b []byte) ([]netlink.Message, error) {
	return w.conn.Execute(netlink.Message{Header: netlink.Header{Type: netlink.HeaderType(typ), Flags: netlink.Request | flags}, Data: b})
}

// policies are what is installed: exemptions, then all the rest.
func (w *Watcher) policies() []policy {
	m := mark{0, w.cfg.Exempt}
	var all []policy
	for _, p := range exempt {
		all = append(all, policy{to: p, priority: priorityExempt, mark: m})
	}
	for typ := uint8(133); typ <= 137; typ++ { // neighbour discovery goes to single hosts too (RFC 4861 §7.3)
		all = append(all, policy{to: all6, icmp6: typ, priority: priorityExempt, mark: m})
	}
	for _, p := range [...]netip.Prefix{all4, all6} {
		all = append(all, policy{to: p, priority: priorityUse, reqid: w.cfg.ReqID, mark: m})
	}
	return all
}

func (w *Watcher) install() error {
	for _, p := range w.policies() {
		_, err := w.command(msgNewPolicy, netlink.Acknowledge, p.put())
		switch {
		case errors.Is(err, os.ErrPermission):
			return fmt.Errorf("%w: %w", ErrPermission, err)
		case p.to.Addr().Is6() && errors.Is(err, unix.EAFNOSUPPORT): // a host without IPv6
		case err != nil:
			return fmt.Errorf("xfrm: policy for %v: %w", p.to, err)
		}
	}
	return nil
}

// ours reports whether a policy was made by this package under this configuration.
func (w *Watcher) ours(p policy) bool {
	return p.reqid == w.cfg.ReqID || p.reqid == 0 && p.priority == priorityExempt
}

// clean removes the policies and then what they made.
func (w *Watcher) clean() error {
	msgs, err := w.command(msgGetPolicy, netlink.Dump, make([]byte, selectorLen+8))
	if err != nil {
		return fmt.Errorf("xfrm: list policies: %w", err)
	}
	for _, m := range msgs {
		p, out, err := readPolicy(m.Data)
		if err != nil || !out || !w.ours(p) {
			continue
		}
		if _, err := w.command(msgDelPolicy, netlink.Acknowledge, p.putID()); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("xfrm: delete policy for %v: %w", p.to, err)
		}
	}
	return w.dropLarval(nil)
}

func (w *Watcher) listen(sink func(selector.Flow)) {
	defer w.work.Done()
	for {
		msgs, err := w.from.Receive()
		if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, os.ErrClosed) {
			return
		}
		if err != nil { // ENOBUFS: some were lost; the kernel asks again
			continue
		}
		for _, m := range msgs {
			if uint16(m.Header.Type) != msgAcquire {
				continue
			}
			if f, reqid, err := readAcquire(m.Data); err == nil && reqid == w.cfg.ReqID {
				sink(f)
			}
		}
	}
}
