//go:build linux

package tun

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/btns-ipsec/btns/dataplane"
	"github.com/btns-ipsec/btns/dataplane/flow"
)

// Plane is a [dataplane.Plane] over a TUN device.
type Plane struct {
	cfg   Config
	sink  func(dataplane.Event)
	dev   *port
	name  string
	uso   bool // the kernel takes and gives UDP segments
	socks sockets
	host  *host
	mon   *monitor

	table atomic.Pointer[flow.Table]
	outs  []*outbound
	ins   []*inbound
	drops dropped
	held  held

	asked     limiter // acquires
	strangers limiter // unknown SPIs
	movers    limiter

	mu       sync.Mutex // Apply and Close
	locals   map[netip.Prefix]netip.Addr
	work     sync.WaitGroup
	stopping atomic.Bool
	stopped  chan struct{}
	problems problems
	replies  icmpReplies
}

var _ dataplane.Plane = (*Plane)(nil)

// Open makes the device, the sockets and what the host needs to use them, after removing what a plane left that did not
// come to its end. Events go to sink, which must not block.
func Open(cfg Config, sink func(dataplane.Event)) (*Plane, error) {
	cfg = cfg.withDefaults()
	p := &Plane{cfg: cfg, sink: sink, stopped: make(chan struct{}), locals: make(map[netip.Prefix]netip.Addr)}
	p.drops.sink = sink
	p.table.Store(flow.NewTable())
	var err error
	if p.socks, err = openSockets(cfg); err != nil { // first: who has the ports owns what is on the host
		return nil, err
	}
	fd, name, uso, err := openDevice(cfg.Device)
	if err == nil {
		p.name, p.uso = name, uso
		if p.dev, err = newPort(fd, name); err != nil {
			err = fmt.Errorf("tun: %s: %w", name, err)
		}
	}
	if err == nil {
		p.host, err = openHost(p)
	}
	if err != nil {
		if p.dev != nil {
			p.dev.close()
		}
		p.socks.close()
		return nil, err
	}
	p.start()
	if !cfg.Unrouted {
		if p.mon, err = openMonitor(p); err != nil {
			return nil, errors.Join(err, p.Close())
		}
	}
	return p, nil
}

func (p *Plane) start() {
	o := newOutbound(p, p.dev)
	p.outs = append(p.outs, o)
	p.socks.each(func(s *socket) { p.ins = append(p.ins, newInbound(p, s)) })
	p.work.Add(len(p.outs) + len(p.ins) + 1)
	go p.restless()
	for _, o := range p.outs {
		go o.run()
	}
	for _, i := range p.ins {
		go i.run()
	}
}

func (p *Plane) event(e dataplane.Event) { p.sink(e) }

// pause is between attempts of a worker whose system calls fail; false when the plane is being closed.
func (p *Plane) pause() bool {
	t := time.NewTimer(100 * time.Millisecond)
	defer t.Stop()
	select {
	case <-p.stopped:
		return false
	case <-t.C:
		return !p.stopping.Load()
	}
}

// settle returns when no packet is under way by an older table.
func (p *Plane) settle() {
	for _, o := range p.outs {
		o.mu.Lock()
		o.mu.Unlock() //nolint:staticcheck // an empty section waits for the batch in hand
	}
	for _, i := range p.ins {
		i.mu.Lock()
		i.mu.Unlock() //nolint:staticcheck // as above
	}
}

// Apply implements [dataplane.Plane].
func (p *Plane) Apply(changes []dataplane.Change) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.host.forget()
	b := p.table.Load().Build()
	var failed error
	for n, c := range changes {
		if err := p.change(b, c); err != nil {
			failed = &dataplane.ChangeError{Index: n, Change: c, Err: err}
			break
		}
	}
	// Packets come to the device only while the table knows what to do with them.
	table := b.Table()
	returned := p.host.withdraw()
	p.table.Store(table)
	p.settle()
	p.mon.renew(returned)
	if err := p.host.install(); err != nil && failed == nil {
		failed = err
	}
	for _, o := range p.outs {
		o.release(table, time.Now().UnixNano())
	}
	return failed
}

func (p *Plane) change(b *flow.Builder, c dataplane.Change) error {
	switch c := c.(type) {
	case dataplane.AddSA:
		pair, s, err := newPair(c.Spec)
		if err != nil {
			return err
		}
		if _, err := p.socketOf(pair); err != nil {
			return err
		}
		path := ethernet
		if r, err := p.host.routeNow(pair.OuterRemote.Addr()); err == nil {
			path = routeMTU(r, p.host.linkNow)
		}
		s.setPath(path)
		return b.Add(pair, c.Use)
	case dataplane.UseSA:
		return b.Use(c.ID)
	case dataplane.RetireSA:
		return b.Retire(c.ID)
	case dataplane.RemoveSA:
		b.Remove(c.ID)
		return nil
	case dataplane.MoveSA:
		return b.Move(c.ID, c.Remote)
	case dataplane.SetPrefix:
		if err := b.SetPrefix(c.Prefix, c.State); err != nil {
			return err
		}
		p.host.setPrefix(c.Prefix, c.State, c.Local)
		return nil
	case dataplane.SetRules:
		if err := b.SetRules(c.Rules); err != nil {
			return err
		}
		p.host.setRules(c.Rules)
		return nil
	}
	return fmt.Errorf("%w: unknown change", ErrUnsupported)
}

// socketOf is the socket that the packets of a pair leave by.
func (p *Plane) socketOf(pair *flow.Pair) (*socket, error) {
	k := rawSocket
	if pair.Encap {
		k = encapSocket
	}
	sock := p.socks[k][family(pair.OuterRemote.Addr())]
	if sock == nil {
		return nil, fmt.Errorf("%w: no socket for %v", ErrUnsupported, pair.OuterRemote)
	}
	return sock, nil
}

// Send implements [dataplane.Plane].
func (p *Plane) Send(local, remote netip.AddrPort, b []byte) error {
	k := ikeSocket
	if local.Port() == p.cfg.EncapPort {
		k = encapSocket
		b = append(make([]byte, 4, 4+len(b)), b...) // non-ESP marker (RFC 3948 §2.2)
	}
	return p.sendTo(k, local, remote, b)
}

// Keepalive implements [dataplane.Plane].
func (p *Plane) Keepalive(local, remote netip.AddrPort) error {
	return p.sendTo(encapSocket, local, remote, []byte{0xff})
}

func (p *Plane) sendTo(k kind, local, remote netip.AddrPort, b []byte) error {
	s := p.socks[k][family(remote.Addr())]
	if s == nil {
		return fmt.Errorf("%w: no socket for %v", ErrUnsupported, remote)
	}
	d := newDest(s, local, remote)
	for tries := 0; ; tries++ {
		err := s.sendOne(d, b)
		switch {
		case err == nil:
			return nil
		case tries > 2 || !passing(err):
			return fmt.Errorf("tun: send to %v: %w", remote, err)
		}
	}
}

// passing reports whether an error of sending may be about another datagram, of which ICMP has told, and is gone once it
// has been told.
func passing(err error) bool {
	for _, e := range []error{unix.ECONNREFUSED, unix.EINTR, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EACCES, unix.EPROTO, unix.EMSGSIZE, unix.ENOPROTOOPT} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// Counters implements [dataplane.Plane].
func (p *Plane) Counters(buf []dataplane.Counters) []dataplane.Counters {
	p.table.Load().Pairs(func(pair *flow.Pair) bool {
		if s := saOf(pair); s != nil && pair.Used() {
			buf = append(buf, s.counters())
		}
		return true
	})
	return buf
}

// Cleared implements [dataplane.Plane].
func (p *Plane) Cleared(buf []dataplane.Cleared) []dataplane.Cleared {
	if p.cfg.Unrouted {
		return buf
	}
	return p.host.filter.counts.read(buf)
}

// Source implements [dataplane.Plane].
func (p *Plane) Source(remote netip.Addr) (netip.Addr, error) { return p.host.source(remote) }

// Info implements [dataplane.Plane].
func (p *Plane) Info() dataplane.Info {
	return dataplane.Info{Name: "tun", Device: p.name, MTU: p.host.mtu, Problems: p.problems.list()}
}

// Close implements [dataplane.Plane].
func (p *Plane) Close() error {
	if p.stopping.Swap(true) {
		return nil
	}
	close(p.stopped)
	var err error
	if p.mon != nil {
		err = p.mon.close()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	err = errors.Join(err, p.host.close())
	p.dev.stop()
	p.socks.each(func(s *socket) { s.stop() })
	p.work.Wait()
	p.drops.end()
	p.dev.close()
	p.socks.close()
	return err
}

// unsent implements outcome.
func (p *Plane) unsent(d *dest, packets int, _ unix.Errno) {
	now := time.Now().UnixNano()
	for range packets {
		p.drops.add(now, d.remote.Addr(), flow.SendFailed, flowKey{Remote: d.remote.Addr(), Local: d.local.Addr()})
	}
}

// tooBig implements outcome: the path has become narrower than was known.
func (p *Plane) tooBig(d *dest, _ int) {
	if d.sa != nil {
		p.askPath(d, time.Now().UnixNano())
	}
}

// askPath asks the system how large packets of an SA may be on their way, once a second at most.
func (p *Plane) askPath(d *dest, now int64) {
	if last := d.asked.Load(); now-last >= perSecond && d.asked.CompareAndSwap(last, now) {
		d.sa.setPath(p.host.pathMTU(d.remote.Addr()))
	}
}

// problems is what does not work as it should.
type problems struct {
	mu   sync.Mutex
	text []string
}

func (p *problems) add(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.text = append(p.text, fmt.Sprintf(format, args...))
}

func (p *problems) list() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.text...)
}
