//go:build linux

package tun

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/btns-ipsec/btns/dataplane"
	"github.com/btns-ipsec/btns/dataplane/flow"
	"github.com/btns-ipsec/btns/selector"
)

type flowKey = selector.Flow

// sa is what the plane keeps beside a pair of the table.
type sa struct {
	pair *flow.Pair
	dest atomic.Pointer[dest] // nil until the first packet out, and after a rest
	in   sync.Mutex           // held while packets are opened: both forms of ESP may arrive at once
	mtu  atomic.Int32         // largest inner packet that need not be fragmented
}

// newPair makes a pair of the table with its sa.
func newPair(spec flow.Spec) (*flow.Pair, *sa, error) {
	pair, s, err := flow.NewPairWith[sa](spec)
	if err == nil {
		s.pair = pair
	}
	return pair, s, err
}

// to is where packets go that a table gives to pair, which is s.pair or what became of it when the peer moved; nil when
// there is no socket.
func (s *sa) to(p *Plane, pair *flow.Pair) *dest {
	if d := s.dest.Load(); d != nil && d.remote == pair.OuterRemote {
		return d
	}
	sock, err := p.socketOf(pair)
	if err != nil {
		return nil
	}
	d := newDest(sock, pair.OuterLocal, pair.OuterRemote)
	d.sa = s
	s.dest.Store(d)
	return d
}

// setPath says how large outer packets may be.
func (s *sa) setPath(mtu int) { s.mtu.Store(int32(s.pair.InnerMTU(mtu))) }

// saOf is the plane's state of a pair of its table.
func saOf(pair *flow.Pair) *sa {
	s, _ := pair.Attached().(*sa)
	return s
}

// reached tells the host what a packet brought about (RFC 4301 §4.4.2.1, RFC 4303 §3.3.3).
func (s *sa) reached(p *Plane, r flow.Reached) {
	if r == 0 {
		return
	}
	if r&flow.First != 0 {
		p.event(dataplane.Carried{ID: s.pair.ID})
	}
	if r&flow.SoftLimit != 0 {
		p.event(dataplane.Spent{ID: s.pair.ID})
	}
	if r&flow.HardLimit != 0 {
		p.event(dataplane.Spent{ID: s.pair.ID, Hard: true})
	}
}

func (s *sa) counters() dataplane.Counters {
	at := func(v int64) time.Time {
		if v == 0 {
			return time.Time{}
		}
		return time.Unix(0, v)
	}
	u := s.pair.Usage()
	return dataplane.Counters{
		ID: s.pair.ID, PacketsIn: u.PacketsIn, PacketsOut: u.PacketsOut, BytesIn: u.BytesIn, BytesOut: u.BytesOut,
		LastIn: at(u.LastIn), LastOut: at(u.LastOut), Drops: u.Drops,
	}
}
