package flow

import (
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"

	"github.com/btns-ipsec/btns/esp"
	"github.com/btns-ipsec/btns/protect"
	"github.com/btns-ipsec/btns/selector"
)

// ErrSpec says that a pair cannot be made or changed as asked.
var ErrSpec = errors.New("flow: bad SA pair")

// Pair is a pair of SAs in a table. It does not change; when its peer moves, a new Pair with the same state takes its
// place, so compare IDs and not pointers. The sealer belongs to one sending goroutine, the opener to one receiving one;
// counters may be read anywhere.
type Pair struct {
	// What every outbound packet needs stands first, together.
	live *live
	only netip.Addr // when the selectors are all between this local address and one remote prefix; else invalid
	Spec
	host netip.Addr // the only remote address in the selectors, if there is but one
}

// live is what the packets of a pair change.
type live struct {
	seal    *esp.Sealer
	open    *esp.Opener
	in, out usage
	drops   atomic.Uint64
	spent   atomic.Bool
	soft    atomic.Bool
	plane   any // see Attach
}

type usage struct {
	packets, octets atomic.Uint64
	last            atomic.Int64
}

// NewPair checks s and makes both halves. Keys and selectors of s are kept and must not change.
func NewPair(s Spec) (*Pair, error) {
	if s.Mode != protect.Transport && s.Mode != protect.Tunnel {
		return nil, fmt.Errorf("%w: %v", ErrSpec, s.Mode)
	}
	if len(s.Local) == 0 || len(s.Remote) == 0 {
		return nil, fmt.Errorf("%w: no selectors", ErrSpec)
	}
	for _, set := range [...]selector.Set{s.Local, s.Remote} {
		for _, sel := range set {
			if !sel.Valid() {
				return nil, fmt.Errorf("%w: selector %v", ErrSpec, sel)
			}
		}
	}
	if !s.OuterLocal.Addr().IsValid() || s.OuterLocal.Addr().Is4() != s.OuterRemote.Addr().Is4() {
		return nil, fmt.Errorf("%w: outer addresses %v and %v", ErrSpec, s.OuterLocal, s.OuterRemote)
	}
	seal, err := esp.NewSealer(s.Suite, s.SPIOut, s.KeysOut)
	if err != nil {
		return nil, fmt.Errorf("%w: outbound: %w", ErrSpec, err)
	}
	open, err := esp.NewOpener(s.Suite, s.SPIIn, s.KeysIn, s.Window)
	if err != nil {
		return nil, fmt.Errorf("%w: inbound: %w", ErrSpec, err)
	}
	s.KeysIn, s.KeysOut = protect.Keys{}, protect.Keys{} // the halves have them
	p := &Pair{Spec: s, live: &live{seal: seal, open: open}}
	if k := keys(s.Remote); len(k) == 1 && k[0].IsSingleIP() {
		p.host = k[0].Addr()
	}
	if l, r := s.Local[0], s.Remote[0]; len(s.Local) == 1 && len(s.Remote) == 1 && l == selector.Host(l.From) && r.Upper() == "" {
		if _, whole := r.Prefix(); whole {
			p.only = l.From
		}
	}
	return p, nil
}

// takes reports whether the selectors have an outbound packet to an address in a prefix of the pair's.
func (p *Pair) takes(f *selector.Flow) bool {
	if p.only.IsValid() {
		return f.Local == p.only
	}
	return selector.Match(p.Local, p.Remote, *f)
}

// OuterTOS is the type-of-service octet of the outer header of a packet with this inner one.
func (p *Pair) OuterTOS(inner uint8) uint8 { return p.Marks.Outer(inner, p.Mode) }

// Sealer is the outbound half.
func (p *Pair) Sealer() *esp.Sealer { return p.live.seal }

// Opener is the inbound half.
func (p *Pair) Opener() *esp.Opener { return p.live.open }

// moved is p with another outer remote address, sharing all state.
func (p *Pair) moved(remote netip.AddrPort) *Pair {
	q := *p
	q.OuterRemote = remote
	return &q
}

// Reached says what a packet brought about; each of it happens once in the life of a pair.
type Reached uint8

// What counting a packet can bring about.
const (
	First     Reached = 1 << iota // the first authentic packet came in
	SoftLimit                     // time to replace the pair
	HardLimit                     // the pair is spent: it neither seals nor opens
)

// CountOut counts sealed packets and the octets protected in them. now is a clock of the caller's, kept for Usage.
func (p *Pair) CountOut(packets, octets uint64, now int64) Reached {
	return p.count(&p.live.out, packets, octets, now)
}

// CountIn counts authentic packets (RFC 4301 §4.4.2.1) and the octets in them.
func (p *Pair) CountIn(packets, octets uint64, now int64) Reached {
	r := p.count(&p.live.in, packets, octets, now)
	if p.live.in.packets.Load() == packets {
		r |= First
	}
	return r
}

func (p *Pair) count(u *usage, packets, octets uint64, now int64) (r Reached) {
	n, o := u.packets.Add(packets), u.octets.Add(octets)
	u.last.Store(now)
	if over(p.Soft, n, o) && !p.live.soft.Swap(true) {
		r |= SoftLimit
	}
	if over(p.Hard, n, o) {
		r |= p.Spend()
	}
	return r
}

func over(l protect.Limits, packets, octets uint64) bool {
	return l.Packets != 0 && packets >= l.Packets || l.Bytes != 0 && octets >= l.Bytes
}

// Spend ends the use of a pair, as when its sequence numbers are exhausted; HardLimit comes back the first time.
func (p *Pair) Spend() Reached {
	if p.live.spent.Swap(true) {
		return 0
	}
	return HardLimit
}

// Spent reports whether the pair is used up. Nothing may be sealed or opened with it.
func (p *Pair) Spent() bool { return p.live.spent.Load() }

// Drop counts an inbound packet dropped after its SPI was found.
func (p *Pair) Drop() { p.live.drops.Add(1) }

// Usage is what a pair has carried.
type Usage struct {
	PacketsIn, PacketsOut, BytesIn, BytesOut, Drops uint64
	LastIn, LastOut                                 int64 // as given to CountIn and CountOut
}

// Usage reads the counters.
func (p *Pair) Usage() Usage {
	l := p.live
	return Usage{
		PacketsIn: l.in.packets.Load(), PacketsOut: l.out.packets.Load(), BytesIn: l.in.octets.Load(), BytesOut: l.out.octets.Load(),
		Drops: l.drops.Load(), LastIn: l.in.last.Load(), LastOut: l.out.last.Load(),
	}
}

// same reports whether two pairs serve the same packets.
func (p *Pair) same(q *Pair) bool { return equal(p.Local, q.Local) && equal(p.Remote, q.Remote) }

func equal(a, b selector.Set) bool {
	if len(a) == 1 && len(b) == 1 {
		return a[0] == b[0]
	}
	return a.Covers(b) && b.Covers(a)
}
