//go:build linux

package tun

import (
	"net/netip"
	"sync"
	"time"

	"github.com/btns-ipsec/btns/dataplane"
	"github.com/btns-ipsec/btns/dataplane/flow"
)

// receiveVector: with eight slots a link without GRO lost most small packets (performance.md §2).
const receiveVector = 64

// inbound takes datagrams from one socket: IKE to the host, ESP to the device. Its lock is held for a batch.
type inbound struct {
	p     *Plane
	s     *socket
	r     *receiver
	x     *stitcher
	mu    sync.Mutex
	table *flow.Table // of the batch
	now   int64
	sa    *sa            // locked
	peer  netip.AddrPort // of sa, as the table has it
	// Of the datagram in hand.
	from netip.AddrPort
	how  arrival
	// Since the SA was locked.
	packets, octets int
}

func newInbound(p *Plane, s *socket) *inbound {
	vector := receiveVector
	if s.kind == ikeSocket {
		vector = 8
	}
	i := &inbound{p: p, s: s, r: newReceiver(s, vector)}
	if s.kind != ikeSocket {
		i.x = newStitcher(p, i)
	} else {
		i.r.icmp = &closedPorts{p: p}
	}
	return i
}

func (i *inbound) run() {
	defer i.p.work.Done()
	for {
		err := i.r.recv()
		if i.p.stopping.Load() {
			return
		}
		if err != nil {
			if !i.p.pause() {
				return
			}
			continue
		}
		i.batch()
	}
}

func (i *inbound) batch() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.now = time.Now().UnixNano()
	i.table = i.p.table.Load()
	for k := range i.r.got {
		b, how := i.r.msg(k)
		from := readName(&i.r.names[k])
		if i.s.kind == rawSocket {
			from = netip.AddrPortFrom(from.Addr(), 0)
		}
		if i.x != nil && (from != i.from || how.local != i.how.local || how.tos != i.how.tos) {
			i.x.flush() // a frame has one header
		}
		i.how, i.from = how, from
		for len(b) > 0 {
			n := min(how.segment, len(b))
			i.datagram(b[:n])
			b = b[n:]
		}
	}
	if i.x != nil {
		i.x.flush()
	}
	i.use(nil)
	i.table = nil
}

// use makes s the locked SA.
func (i *inbound) use(s *sa) {
	if i.sa == s {
		return
	}
	if i.sa != nil {
		i.count()
		i.sa.in.Unlock()
	}
	if i.sa = s; s != nil {
		s.in.Lock()
	}
}

// count counts what was opened since it was counted last.
func (i *inbound) count() {
	if i.packets > 0 {
		i.sa.reached(i.p, i.sa.pair.CountIn(uint64(i.packets), uint64(i.octets), i.now))
	}
	i.packets, i.octets = 0, 0
}

func (i *inbound) local() netip.AddrPort { return netip.AddrPortFrom(i.how.local, i.s.number) }

// datagram tells what it is by its first octets (RFC 3948 §2.2).
func (i *inbound) datagram(b []byte) {
	switch {
	case i.s.kind == ikeSocket:
		i.ike(b)
	case i.s.kind == rawSocket:
		i.esp(b)
	case len(b) == 1 && b[0] == 0xff: // keepalive
	case len(b) < 8:
		i.drop(nil, flow.Malformed, flowKey{Remote: i.from.Addr()})
	case be.Uint32(b) == 0:
		i.ike(b[4:])
	default:
		i.esp(b)
	}
}

func (i *inbound) ike(b []byte) {
	const header = 28
	if len(b) < header {
		i.drop(nil, flow.Malformed, flowKey{Remote: i.from.Addr()})
		return
	}
	i.p.event(dataplane.Datagram{Local: i.local(), Remote: i.from, Data: append([]byte(nil), b...)})
}

func (i *inbound) esp(b []byte) {
	if len(b) < 8 {
		i.drop(nil, flow.Malformed, flowKey{Remote: i.from.Addr()})
		return
	}
	spi := be.Uint32(b)
	s := i.sa
	if s == nil || s.pair.SPIIn != spi {
		pair := i.table.BySPI(spi)
		if pair == nil {
			i.unknown(spi)
			return
		}
		s = saOf(pair)
		i.x.flush()
		i.use(s)
		i.peer = pair.OuterRemote
	}
	if s.pair.Spent() {
		i.drop(s, flow.SpentSA, flowKey{})
		return
	}
	i.x.packet(s, b)
}

func (i *inbound) unknown(spi uint32) {
	a := i.from.Addr()
	i.p.drops.add(i.now, a, flow.UnknownSPI, flowKey{Remote: a, Local: i.how.local, Proto: 50})
	if i.p.strangers.allow(a, i.now) {
		i.p.event(dataplane.UnknownSPI{Local: i.local(), Remote: i.from, SPI: spi})
	}
}

func (i *inbound) drop(s *sa, why flow.Reason, f flowKey) {
	if s != nil {
		s.pair.Drop()
		if !f.Remote.IsValid() {
			f.Remote, f.Local = i.from.Addr(), i.how.local
		}
	}
	if why == flow.Dummy { // no error (RFC 4303 §2.6)
		return
	}
	i.p.drops.add(i.now, i.from.Addr(), why, f)
}

// authentic hears of every packet that opened, n octets of payload.
func (i *inbound) authentic(s *sa, n int) {
	i.packets++
	i.octets += n
	if s.pair.Limited() { // each by itself, so that a batch does not overrun the limit
		i.count()
	}
	if s.pair.PeerMoves {
		i.moved(s)
	}
}

// moved follows a peer behind a NAT (RFC 7296 §2.23): the host decides, so it is told once a second at most.
func (i *inbound) moved(s *sa) {
	if i.s.kind != encapSocket || i.peer == i.from || !s.pair.Opener().Newest() ||
		i.from.Addr().Is4() != s.pair.OuterLocal.Addr().Is4() || !i.p.movers.allow(i.from.Addr(), i.now) {
		return
	}
	i.p.event(dataplane.Moved{ID: s.pair.ID, Remote: i.from})
}
